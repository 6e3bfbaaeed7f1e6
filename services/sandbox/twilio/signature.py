"""Twilio's webhook signature, for webhooks whose fields are sorted once and for all.

The same value as `twilio.request_validator.RequestValidator.compute_signature` (a test holds them
together), at a tenth of the time.
"""

import hmac
from base64 import b64encode
from collections.abc import Sequence


def signature(auth_token: bytes, url: str, fields: Sequence[tuple[str, str]]) -> str:
    """`X-Twilio-Signature` of a form with unique, sorted field names; `url` has no fragment."""
    text = url + "".join([name + value for name, value in fields])
    return b64encode(hmac.digest(auth_token, text.encode(), "sha1")).decode()
