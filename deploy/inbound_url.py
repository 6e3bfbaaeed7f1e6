# ruff: noqa: INP001 - a script that is piped into a sender's container
"""Prints where an organisation's inbound messages (STOP, START) have to be posted, with the retries to ask Twilio for.

`docker compose exec -T sender-sms python - "Example" < deploy/inbound_url.py`; the argument is the organisation's name.
"""

import os
import sys

from outreach.organisations import organisation_id
from outreach.sending.attempt_token import TokenKey
from services.sender_sms.form import CALLBACK_FRAGMENT, INBOUND_PATH

if len(sys.argv) != 2:
    sys.exit("give the organisation's name")
token = TokenKey(os.environ["OUTREACH_ATTEMPT_TOKEN_KEY"]).sign_organisation(
    organisation_id(sys.argv[1])
)
base_url = os.environ["OUTREACH_SENDER_SMS_WEBHOOK_URL"].rstrip("/")
sys.stdout.write(f"{base_url}{INBOUND_PATH}{token}{CALLBACK_FRAGMENT}\n")
