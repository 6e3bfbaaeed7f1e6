"""What SendGrid's events mean for a message, by the tables of `outreach.failures.sendgrid`. Pure."""

from collections.abc import Mapping
from typing import Final

from outreach.failures.sendgrid import (
    BOUNCE_TYPES,
    CLASSIFICATIONS,
    DROPPED,
    DROPS,
    STATUSES,
    VAGUE_CLASSIFICATIONS,
)
from outreach.vocabulary import FailureReason, Outcome
from services.sender_email.event_fields import (
    BOUNCE,
    CLASSIFICATION,
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
