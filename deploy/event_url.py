# ruff: noqa: INP001 - a script that is piped into a sender's container
"""Prints where an organisation's SendGrid events (delivered, bounced, …) have to be posted.

`docker compose exec -T sender-email python - "Example" < deploy/event_url.py`; the argument is the organisation's name.
"""

import os
import sys

from outreach.organisations import organisation_id
from outreach.sending.attempt_token import TokenKey

if len(sys.argv) != 2:
    sys.exit("give the organisation's name")
token = TokenKey(os.environ["OUTREACH_ATTEMPT_TOKEN_KEY"]).sign_organisation(
    organisation_id(sys.argv[1])
)
base_url = os.environ["OUTREACH_SENDER_EMAIL_PUBLIC_URL"].rstrip("/")
sys.stdout.write(f"{base_url}/sendgrid/events/{token}\n")
