"""What SendGrid's events mean.

A stub of the tables of the event webhook, with their signature, until both are together.
"""

from collections.abc import Mapping
from typing import Any

from outreach.vocabulary import FailureReason, Outcome


def event_outcome(event: Mapping[str, Any]) -> tuple[Outcome, FailureReason | None, str] | None:
    """The outcome, reason and code that an event proves; None: nothing about its attempt."""
    match event.get("event"):
        case "processed":
            return Outcome.ACCEPTED, None, ""
        case "deferred":
            return Outcome.DEFERRED, None, ""
        case "delivered" | "open" | "click":
            return Outcome.DELIVERED, None, ""
        case "dropped" if event.get("reason") == "Unsubscribed Address":
            return Outcome.OPTED_OUT, None, "Unsubscribed Address"
        case "bounce" | "dropped":
            return Outcome.FAILED, FailureReason.OTHER, str(event.get("status") or "")
    return None
