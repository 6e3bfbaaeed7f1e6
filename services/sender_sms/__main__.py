"""`python -m services.sender_sms`: the SMS sender, configured by `OUTREACH_*`."""

import uvloop

from outreach.logs import configure_logs
from services.sender_sms.app import NAME, main
from services.sender_sms.settings import SenderSmsSettings

if __name__ == "__main__":
    settings = SenderSmsSettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
    configure_logs(level=settings.log_level, service=NAME)
    uvloop.run(main(settings))
