"""Twilio's error codes: what each means to us. A table, so that a new code is one line.

Source: Twilio's error dictionary. Twilio says that codes may change, so the raw code is always kept
and an unknown one is OTHER.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from outreach.vocabulary import FailureReason


class Effect(Enum):
    """What a code means when a create is refused with it (HTTP 4xx)."""

    #: This message fails.
    REJECT = "reject"
    #: The recipient opted out: no failure, and never tried again.
    OPT_OUT = "opt out"
    #: Too fast: nothing was created; the same attempt may be tried again.
    THROTTLE = "throttle"
    #: The account is refused: every further message would be too.
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class CodeRule:
    """What a code means. `reason` is None for an opt-out."""

    reason: FailureReason | None
    effect: Effect = Effect.REJECT


OPT_OUT_RULE: Final = CodeRule(None, Effect.OPT_OUT)
OTHER_RULE: Final = CodeRule(FailureReason.OTHER)

#: Sent for texts over the limit, by Twilio and by us.
BODY_TOO_LONG_CODE: Final = "21617"


def _table() -> dict[str, CodeRule]:
    reason = FailureReason
    reject: dict[FailureReason, tuple[int, ...]] = {
        reason.INVALID_RECIPIENT: (21211, 21217, 21214, 21604, 30005, 63003, 63024),
        reason.UNREACHABLE: (21614, 21612, 30003, 30006, 30011),
        reason.BLOCKED_BY_CARRIER_OR_SERVER: (30004, 30450, 30610, 30640),
        reason.FILTERED_AS_SPAM: (30007, 21618, 63013, 63026),
        reason.CONTENT_REJECTED: (
            *(21602, 21617, 21619, 30019, 21654, 21655, 21656),
            *(63005, 63021, 63028),
        ),
        reason.SENDER_NOT_ALLOWED: (
            *(21212, 21601, 21603, 21606, 21701, 21702, 21703, 21704, 21705),
            *(30018, 30024, 30032, 30034, 30035, 63007),
        ),
        reason.REGION_NOT_ENABLED: (21408,),
        # a trial account's limits concern single recipients
        reason.ACCOUNT_PROBLEM: (21607, 21608, 30002, 30033),
        reason.RATE_LIMITED: (30001, 30022, 30023, 30027, 63017, 63018, 63038),
        reason.EXPIRED_IN_QUEUE: (30036,),
        reason.PROVIDER_ERROR: (30008, 30017, 30020, 30021, 30410, 63010, 20500, 20503),
    }
    table = {str(code): CodeRule(why) for why, codes in reject.items() for code in codes}
    for code in (21610, 63033, 63014):
        table[str(code)] = OPT_OUT_RULE
    for code in (20429, 21611, 14107):
        table[str(code)] = CodeRule(reason.RATE_LIMITED, Effect.THROTTLE)
    # 20003 wrong credentials, 20005 suspended, 20006 no access, 10001 not active,
    # 20404 no such account or Messaging Service
    for code in (20003, 20005, 20006, 10001, 20404):
        table[str(code)] = CodeRule(reason.ACCOUNT_PROBLEM, Effect.ACCOUNT)
    return table


CODES: Final = _table()


def rule_for(code: str) -> CodeRule:
    """The rule of a code; an unknown code is OTHER."""
    return CODES.get(code, OTHER_RULE)
