"""`python -m services.sender_sms`: the SMS sender, configured by `OUTREACH_*`."""

import sys

from outreach.sending.process import start_sender
from services.sender_sms.app import NAME, serve
from services.sender_sms.settings import SenderSmsSettings


def start() -> int:
    """Send until SIGTERM; 2 when a setting is missing or wrong, 1 when it could not go on."""
    return start_sender(NAME, SenderSmsSettings, serve)


if __name__ == "__main__":
    sys.exit(start())
