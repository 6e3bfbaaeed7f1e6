"""What SendGrid's events mean for a message: one table for each kind of code. Pure.

Sources: SendGrid's "Event Webhook Reference" (types of events, drop reasons), "Bounce and Block
Classifications", glossary ("Expired": deferred for 72 hours); RFC 3463 and IANA's registry of SMTP
enhanced status codes. SendGrid says that classifications change, so the raw codes are always kept
and what is unknown is OTHER.
"""

from collections.abc import Mapping
from typing import Final

from outreach.vocabulary import FailureReason, Outcome
from services.sender_email.event_fields import (
    BOUNCE,
    CLASSIFICATION,
    DROPPED,
    EVENT,
    REASON,
    STATUS,
    TYPE,
    kept_fields,
)

PROVIDER_CODE_CHARACTERS_MAX: Final = 64

Proved = tuple[Outcome, FailureReason | None, str]

#: Events that need no reason. An opened email was delivered.
OUTCOMES: Final[Mapping[str, Outcome]] = {
    "processed": Outcome.ACCEPTED,
    "deferred": Outcome.DEFERRED,
    "delivered": Outcome.DELIVERED,
    "open": Outcome.DELIVERED,
    "click": Outcome.DELIVERED,
}
_PLAIN: Final[Mapping[str, Proved]] = {
    event: (outcome, None, "") for event, outcome in OUTCOMES.items()
}

_R = FailureReason

#: What SendGrid makes of a mail server's answer. It goes before the status in it.
CLASSIFICATIONS: Final[Mapping[str, FailureReason]] = {
    "Invalid Address": _R.INVALID_RECIPIENT,
    "Mailbox Unavailable": _R.MAILBOX_UNAVAILABLE,
    "Content": _R.FILTERED_AS_SPAM,
    "Reputation": _R.BLOCKED_BY_CARRIER_OR_SERVER,
    "Frequency or Volume Too High": _R.RATE_LIMITED,
}
#: Those that say less than a status does. ("Unclassified" says nothing.)
VAGUE_CLASSIFICATIONS: Final[Mapping[str, FailureReason]] = {
    "Technical": _R.UNREACHABLE,
    "Technical Failure": _R.UNREACHABLE,
}

#: Class (2 success, 4 temporary, 5 permanent), subject, detail; `x` is any. The most exact line counts.
#: A bounce for a temporary reason was tried again until SendGrid gave up.
STATUSES: Final[Mapping[str, FailureReason]] = {
    "x.1.x": _R.INVALID_RECIPIENT,
    "x.1.7": _R.SENDER_NOT_ALLOWED,  # bad address of the sender
    "x.1.8": _R.SENDER_NOT_ALLOWED,  # bad domain of the sender
    "x.2.x": _R.MAILBOX_UNAVAILABLE,
    "x.2.3": _R.CONTENT_REJECTED,  # too long for the mailbox
    "x.3.x": _R.UNREACHABLE,
    "x.3.4": _R.CONTENT_REJECTED,  # too big for the system
    "x.4.x": _R.UNREACHABLE,
    "x.4.7": _R.EXPIRED_IN_QUEUE,
    "4.3.x": _R.EXPIRED_IN_QUEUE,
    "4.4.x": _R.EXPIRED_IN_QUEUE,
    "x.5.x": _R.PROVIDER_ERROR,
    "x.5.3": _R.RATE_LIMITED,  # too many recipients
    "x.6.x": _R.CONTENT_REJECTED,
    "x.7.x": _R.BLOCKED_BY_CARRIER_OR_SERVER,
    "x.7.13": _R.MAILBOX_UNAVAILABLE,  # account disabled
    "x.7.17": _R.INVALID_RECIPIENT,  # the mailbox has another owner now
    "x.7.18": _R.INVALID_RECIPIENT,  # the domain has another owner now
    "x.7.20": _R.SENDER_NOT_ALLOWED,  # DKIM
    "x.7.21": _R.SENDER_NOT_ALLOWED,  # DKIM
    "x.7.22": _R.SENDER_NOT_ALLOWED,  # DKIM
    "x.7.23": _R.SENDER_NOT_ALLOWED,  # SPF
    "x.7.24": _R.SENDER_NOT_ALLOWED,  # SPF
    "x.7.26": _R.SENDER_NOT_ALLOWED,  # DMARC
    "x.7.28": _R.RATE_LIMITED,  # mail flood
    # codes of RFC 5321, where a server gives no other
    "551": _R.INVALID_RECIPIENT,
    "552": _R.MAILBOX_UNAVAILABLE,
    "553": _R.INVALID_RECIPIENT,
}

#: The type of a bounce, where nothing else tells.
BOUNCE_TYPES: Final[Mapping[str, FailureReason]] = {
    "blocked": _R.BLOCKED_BY_CARRIER_OR_SERVER,
    "expired": _R.EXPIRED_IN_QUEUE,
    "bounce": _R.OTHER,
}

#: None: the recipient had opted out at SendGrid, which is no failure.
DROPS: Final[Mapping[str, FailureReason | None]] = {
    "Unsubscribed Address": None,
    "Bounced Address": _R.PREVIOUSLY_BOUNCED,
    "Spam Reporting Address": _R.PREVIOUSLY_BOUNCED,
    "Invalid": _R.INVALID_RECIPIENT,
    "Spam Content": _R.FILTERED_AS_SPAM,
    "Recipient List over Package Quota": _R.ACCOUNT_PROBLEM,
    "Invalid SMTPAPI header": _R.CONTENT_REJECTED,
    "Expired": _R.EXPIRED_IN_QUEUE,
}


def event_outcome(event: Mapping[str, object]) -> Proved | None:
    """What an event proves about its message: outcome, reason, provider code.

    None when it proves nothing, as one that opts the recipient out. An event as it is posted, as
    the look-ups have it, or what was kept of it: the answer is the same. The code has at most 64
    characters and no part of any text of a mail server: `bounce/Invalid Address/5.1.1`,
    `dropped/Bounced Address`.
    """
    kept = kept_fields(event)
    return None if kept is None else outcome_of(kept)


def outcome_of(kept: Mapping[str, str]) -> Proved | None:
    """The same for what was kept of an event. Raises KeyError for what is none."""
    kind = kept[EVENT]
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    if kind == BOUNCE:
        return Outcome.FAILED, _bounce_reason(kept), _code_of_bounce(kept)
    if kind == DROPPED:
        return _dropped(kept.get(REASON, ""))
    return None


def _bounce_reason(kept: Mapping[str, str]) -> FailureReason:
    bounce_type, classification = kept.get(TYPE, ""), kept.get(CLASSIFICATION, "")
    if bounce_type == "expired":
        return BOUNCE_TYPES[bounce_type]
    return (
        CLASSIFICATIONS.get(classification)
        or status_reason(kept.get(STATUS, ""))
        or VAGUE_CLASSIFICATIONS.get(classification)
        or BOUNCE_TYPES.get(bounce_type, FailureReason.OTHER)
    )


def status_reason(status: str) -> FailureReason | None:
    """The reason that an SMTP status says, enhanced or not; None when it says none."""
    grade, _, rest = status.partition(".")
    subject, _, detail = rest.partition(".")
    if not detail:
        return STATUSES.get(status)
    for line in (f"x.{subject}.{detail}", f"{grade}.{subject}.x", f"x.{subject}.x"):
        if line in STATUSES:
            return STATUSES[line]
    return None


def _code_of_bounce(kept: Mapping[str, str]) -> str:
    parts = (kept.get(TYPE, BOUNCE), kept.get(CLASSIFICATION, ""), kept.get(STATUS, ""))
    return "/".join(filter(None, parts))[:PROVIDER_CODE_CHARACTERS_MAX]


def _dropped(keyword: str) -> Proved:
    code = f"{DROPPED}/{keyword}" if keyword else DROPPED
    reason = DROPS.get(keyword, FailureReason.OTHER)
    if reason is None:
        return Outcome.OPTED_OUT, None, code
    return Outcome.FAILED, reason, code
