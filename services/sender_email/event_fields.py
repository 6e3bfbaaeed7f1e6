"""What is kept of an event of SendGrid's: its type, ids, codes and keywords. Pure.

Reasons and responses of mail servers are texts, and often hold the recipient's address. Of these only
the codes at the beginning are read; no text and no address is stored, logged or reported.

The fields are those of SendGrid's "Event Webhook Reference". Any of them may be missing: asynchronous
bounces come without `sg_message_id`, bounces of unknown domains without `status`.
"""

import re
from collections.abc import Mapping
from typing import Final

from outreach.failures.sendgrid import DROPPED
from outreach.recipients import RECIPIENT_HASH_BYTES

EVENT: Final = "event"
MESSAGE_ID: Final = "sg_message_id"
TYPE: Final = "type"
STATUS: Final = "status"
CLASSIFICATION: Final = "bounce_classification"
REASON: Final = "reason"
#: The custom argument that says who an event is about, whatever became of the campaign; as in an unsubscribe link.
RECIPIENT_HASH: Final = "recipient_hash"

#: Types of events that say how a message fares.
PLAIN_EVENTS: Final = frozenset(("processed", "deferred", "delivered", "open", "click"))
BOUNCE: Final = "bounce"
#: Types of events that opt the recipient out or in.
OPT_EVENTS: Final = frozenset(
    ("spamreport", "unsubscribe", "group_unsubscribe", "group_resubscribe")
)
#: About the account, nobody's message.
ACCOUNT_EVENT: Final = "account_status_change"
KNOWN_EVENTS: Final = PLAIN_EVENTS | OPT_EVENTS | {BOUNCE, DROPPED}

#: Why SendGrid drops a message instead of sending it (`reason` of a `dropped` event).
DROP_REASONS: Final = (
    "Unsubscribed Address",
    "Bounced Address",
    "Spam Reporting Address",
    "Invalid",
    "Spam Content",
    "Recipient List over Package Quota",
    "Invalid SMTPAPI header",
    "Expired",
)
#: What a bounce is: of the address, of this message alone, or of one that was deferred too long.
BOUNCE_TYPES: Final = frozenset(("bounce", "blocked", "expired"))
#: The same events by the names that the look-ups have for them, with the type that such a name says.
_OTHER_NAMES: Final = {
    "bounced": (BOUNCE, "bounce"),
    "blocked": (BOUNCE, "blocked"),
    "spam_report": ("spamreport", ""),
}

MESSAGE_ID_CHARACTERS_MAX: Final = 128
_DROP_KEYWORDS: Final = {reason.lower(): reason for reason in DROP_REASONS}
#: SendGrid's own name for it, whatever names are added: words, no address.
_CLASSIFICATION: Final = re.compile(r"[A-Za-z][A-Za-z /-]{0,39}")
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_STATUS: Final = re.compile(rf"{_ENHANCED.pattern}|[245]\d\d")
_RECIPIENT_HASH: Final = re.compile(rf"[0-9a-f]{{{2 * RECIPIENT_HASH_BYTES}}}")
#: How a mail server's answer begins: `550`, `550 5.1.1`, `550-5.1.1`, `550 #5.1.1`.
_ANSWER: Final = re.compile(rf"\s*([245]\d\d)\b(?:[ -]#?({_ENHANCED.pattern})\b)?")
#: Says that it failed, and not why.
_UNDEFINED: Final = frozenset(("4.0.0", "5.0.0"))


def kept_fields(event: Mapping[str, object]) -> dict[str, str] | None:
    """What is kept of an event; None when it says nothing about a message. Safe to repeat."""
    kind = event.get(EVENT)
    if not isinstance(kind, str):
        return None
    kept = {EVENT: kind}
    message_id = event.get(MESSAGE_ID)
    if isinstance(message_id, str) and _is_message_id(message_id):
        kept[MESSAGE_ID] = message_id
    if kind in PLAIN_EVENTS:  # nearly all
        return kept
    if kind in _OTHER_NAMES:
        kind, bounce_type = _OTHER_NAMES[kind]
        kept[EVENT] = kind
        event = {TYPE: bounce_type, **event}
    if kind == BOUNCE:
        return _kept_of_bounce(event, kept)
    if kind == DROPPED:
        keyword = _DROP_KEYWORDS.get(_text(event, REASON).strip().lower())
        return kept if keyword is None else {**kept, REASON: keyword}
    return _kept_of_opt_out(event, kept) if kind in OPT_EVENTS else None


def _kept_of_opt_out(event: Mapping[str, object], kept: dict[str, str]) -> dict[str, str]:
    recipient_hash = _text(event, RECIPIENT_HASH)
    if _RECIPIENT_HASH.fullmatch(recipient_hash):
        kept[RECIPIENT_HASH] = recipient_hash
    return kept


def _kept_of_bounce(event: Mapping[str, object], kept: dict[str, str]) -> dict[str, str]:
    bounce_type = _text(event, TYPE) or _text(event, "bounce_type")
    if bounce_type in BOUNCE_TYPES:
        kept[TYPE] = bounce_type
    classification = _text(event, CLASSIFICATION)
    if _CLASSIFICATION.fullmatch(classification):
        kept[CLASSIFICATION] = classification
    status = _status(_text(event, STATUS).strip(), _text(event, REASON))
    if status:
        kept[STATUS] = status
    return kept


def _status(given: str, reason: str) -> str:
    """The status that says most: SendGrid gives none, or one that says nothing, where the mail server's answer may."""
    status = given if _STATUS.fullmatch(given) else ""
    if _ENHANCED.fullmatch(status) and status not in _UNDEFINED:
        return status
    answer = _ANSWER.match(reason)
    code, enhanced = (answer[1], answer[2] or "") if answer else ("", "")
    if enhanced and enhanced not in _UNDEFINED:
        return enhanced
    return status or enhanced or code


def _is_message_id(text: str) -> bool:
    return 0 < len(text) <= MESSAGE_ID_CHARACTERS_MAX and "@" not in text


def _text(event: Mapping[str, object], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""
