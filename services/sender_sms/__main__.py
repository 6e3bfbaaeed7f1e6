"""`python -m services.sender_sms`: the SMS sender, configured by `OUTREACH_*`."""

import sys

import uvloop
from pydantic import ValidationError

from outreach.logs import configure_logs
from services.sender_sms.app import NAME, main
from services.sender_sms.settings import SenderSmsSettings


def start() -> int:
    """Send until SIGTERM; 2 when a setting is missing or wrong, 1 when it could not go on."""
    try:
        settings = SenderSmsSettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"OUTREACH_{name}: {fault['msg']}\n")
        return 2
    configure_logs(level=settings.log_level, service=NAME)
    return uvloop.run(main(settings))


if __name__ == "__main__":
    sys.exit(start())
