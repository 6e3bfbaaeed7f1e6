"""What Twilio's message statuses mean for a message; failed ones go by their error code."""

from typing import Final

from outreach.failures.twilio import Effect, rule_for
from outreach.vocabulary import FailureReason, Outcome

#: Twilio's message statuses: what they prove. `failed` and `undelivered` go by their error code.
STATUSES: Final = {
    "accepted": Outcome.ACCEPTED,
    "scheduled": Outcome.ACCEPTED,
    "queued": Outcome.ACCEPTED,
    "sending": Outcome.ACCEPTED,
    "sent": Outcome.ACCEPTED,
    "delivered": Outcome.DELIVERED,
    "read": Outcome.DELIVERED,
    "partially_delivered": Outcome.DELIVERED,
    "failed": Outcome.FAILED,
    "undelivered": Outcome.FAILED,
    "canceled": Outcome.FAILED,
}


def status_outcome(status: str, code: str) -> tuple[Outcome, FailureReason | None, str] | None:
    """What a message's status proves: outcome, reason, raw code. None for an unknown status."""
    outcome = STATUSES.get(status)
    if outcome is None:
        return None
    if outcome is not Outcome.FAILED:
        return outcome, None, ""
    rule = rule_for(code)
    if rule.effect is Effect.OPT_OUT:
        return Outcome.OPTED_OUT, None, code
    return Outcome.FAILED, rule.reason, code or status
