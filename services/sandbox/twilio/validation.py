"""The checks that Twilio makes before it accepts a message, in its order and with its codes."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.sandbox.twilio.errors import not_found, refusal
from services.sandbox.twilio.magic import MAGIC_FROM, MAGIC_TO, VALID_FROM

BODY_CHARACTERS_MAX = 1_600
VALIDITY_PERIOD_SECONDS_MAX = 36_000
CALLBACK_URL_CHARACTERS_MAX = 4_000

_E164 = re.compile(r"\+[1-9][0-9]{3,14}")
_ALPHANUMERIC_SENDER = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 +&_-]{1,11}")
_SERVICE_SID = re.compile(r"MG[0-9a-fA-F]{32}")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Account:
    """What the account owns."""

    account_sid: str
    messaging_service_sid: str
    sender_numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A create that passed. `sender` is empty when the Messaging Service is to choose."""

    to: str
    body: str
    sender: str
    with_service: bool
    status_callback: str


def validated(form: dict[str, str], account: Account) -> Draft:
    """The draft of a create's form.

    Raises:
        TwilioError: the first rule that it breaks.
    """
    to = form.get("To", "")
    sender = form.get("From", "")
    service_sid = form.get("MessagingServiceSid", "")
    body = form.get("Body", "")
    callback = form.get("StatusCallback", "")
    if not to:
        raise refusal(21604)
    if not _E164.fullmatch(to):
        raise refusal(21211, to=to)
    if not sender and not service_sid:
        raise refusal(21603)
    if not body:
        raise refusal(21602)
    if len(body) > BODY_CHARACTERS_MAX:
        raise refusal(21617)
    _check_service(service_sid, account)
    _check_sender(sender, account, with_service=bool(service_sid))
    _check_validity_period(form.get("ValidityPeriod", ""))
    if callback and not valid_callback(callback):
        raise refusal(21609, detail=callback)
    if to in MAGIC_TO:
        raise refusal(MAGIC_TO[to], to=to, sender=sender)
    return Draft(to, body, sender, bool(service_sid), callback)


def valid_callback(url: str) -> bool:
    """Whether Twilio takes it as a callback: http(s), a host without underscores, not too long."""
    if len(url) > CALLBACK_URL_CHARACTERS_MAX:
        return False
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme in ("http", "https") and bool(_HOST.fullmatch(host)) and port_is_valid


def _check_service(service_sid: str, account: Account) -> None:
    if service_sid and service_sid != account.messaging_service_sid:
        if _SERVICE_SID.fullmatch(service_sid):
            raise not_found(f"/Services/{service_sid}")
        raise refusal(21701, detail=service_sid)


def _check_sender(sender: str, account: Account, *, with_service: bool) -> None:
    if not sender or sender in account.sender_numbers or sender == VALID_FROM:
        return
    if sender in MAGIC_FROM:
        raise refusal(MAGIC_FROM[sender], sender=sender)
    if with_service:
        raise refusal(21712, sender=sender)
    if _E164.fullmatch(sender) or _ALPHANUMERIC_SENDER.fullmatch(sender):
        raise refusal(21606, sender=sender)
    raise refusal(21212, sender=sender)


def _check_validity_period(text: str) -> None:
    if text and not (
        text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= VALIDITY_PERIOD_SECONDS_MAX
    ):
        raise refusal(21624)
