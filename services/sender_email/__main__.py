"""`python -m services.sender_email`: the email sender, configured by `OUTREACH_*`."""

import sys

from outreach.sending.process import start_sender
from services.sender_email.app import NAME, serve
from services.sender_email.settings import SenderEmailSettings


def start() -> int:
    """Send until SIGTERM; 2 when a setting is missing or wrong, 1 when it could not go on."""
    return start_sender(NAME, SenderEmailSettings, serve)


if __name__ == "__main__":
    sys.exit(start())
