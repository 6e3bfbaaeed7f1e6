"""What a run allows, from its plan and what happened in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.history import Acceptance, Bounds
from chaos.plan import Plan
from chaos.record.ledger import largest_request


def bounds_of(
    plan: Plan,
    accepted: list[Acceptance],
    sms_totals: Mapping[str, Any],
    email_totals: Mapping[str, Any],
) -> Bounds:
    """The bounds of a run.

    A message may be UNCONFIRMED though the provider took none when a fault hit its request on the
    way, or when the provider itself answered with a fault before it took it. An email's request holds
    many messages: so many as the largest that was seen.

    Args:
        plan: of the run.
        accepted: the ledger.
        sms_totals: the ledger's totals.
        email_totals: those of emails.
    """
    per_email_request = largest_request(accepted)
    calls = sum(planned.fault.unsent_max for planned in plan.faults)
    messages_per_call = per_email_request if calls else 1
    unanswered = ("http_500_before_accept", "dropped_before_accept", "unavailable")
    by_provider = sum(int(sms_totals.get(name, 0)) for name in unanswered)
    by_provider += per_email_request * sum(int(email_totals.get(name, 0)) for name in unanswered)
    return Bounds(
        send_window_seconds=plan.send_window_seconds,
        hold_seconds=plan.hold_seconds,
        unsent_unconfirmed_max=calls * messages_per_call + by_provider,
        refusals_lost_max=calls,
        receipts_may_be_lost=any(planned.fault.receipts_lost for planned in plan.faults),
    )
