"""What a campaign of a soak may show, from the faults that it lived through."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.history import Bounds, History
from chaos.record.ledger import largest_request
from chaos.soak.disturbance import Injected


def bounds_of(
    injected: Sequence[Injected],
    history: History,
    unanswered: int,
    send_window_seconds: float,
) -> Bounds:
    """The bounds of one campaign's history.

    Args:
        injected: the faults since the campaign began.
        history: of the campaign, with all that was accepted of it.
        unanswered: calls that the provider answered with a fault of its own meanwhile.
        send_window_seconds: of a claim.
    """
    faults = [one.fault for one in injected]
    calls = sum(fault.unsent_max for fault in faults)
    # A call carries one SMS, or as many emails as the largest request had.
    messages = largest_request(history.acceptances) if calls + unanswered else 1
    return Bounds(
        send_window_seconds=send_window_seconds,
        hold_seconds=sum(fault.hold_seconds for fault in faults),
        unsent_unconfirmed_max=(calls + unanswered) * messages,
        refusals_lost_max=calls,
        receipts_may_be_lost=any(fault.receipts_lost for fault in faults),
    )
