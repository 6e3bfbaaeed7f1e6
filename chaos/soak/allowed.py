"""What a campaign of a soak may show, from the faults that it lived through."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.bounds import in_flight, largest_claim
from chaos.history import Bounds, History
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
        history: of the campaign, with what the database holds.
        unanswered: calls that the provider answered with a fault of its own meanwhile, and took
            nothing.
        send_window_seconds: of a claim.
    """
    hit = sum(in_flight(history, one.done) for one in injected if one.fault.unsent_max)
    # A call carries one SMS, or at most as many emails as the largest claim.
    by_provider = unanswered * largest_claim(history) if unanswered else 0
    return Bounds(
        send_window_seconds=send_window_seconds,
        hold_seconds=sum(one.fault.hold_seconds for one in injected),
        unsent_unconfirmed_max=hit + by_provider,
        receipts_may_be_lost=any(one.fault.receipts_lost for one in injected),
    )
