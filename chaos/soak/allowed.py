"""What a campaign of a soak may show, from the faults that it lived through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaos.bounds import in_flight, largest_claim
from chaos.history import Bounds, History
from chaos.soak.disturbance import Injected

#: Of a claim.
SEND_WINDOW_SECONDS: Final = 10
#: A request may take so long until its sender gives it up.
SMS_REQUEST_SECONDS: Final = 5
EMAIL_REQUEST_SECONDS: Final = 10


def bounds_of(
    injected: Sequence[Injected],
    history: History,
    unanswered: int,
) -> Bounds:
    """The bounds of one campaign's history.

    Args:
        injected: the faults since the campaign began.
        history: of the campaign, with what the database holds.
        unanswered: calls of the channel that the provider answered with a fault of its own meanwhile, and took
            nothing.
    """
    hit = sum(in_flight(history, one.done) for one in injected if one.fault.unsent_max)
    # A call carries one SMS, or at most as many emails as the largest claim.
    by_provider = unanswered * largest_claim(history) if unanswered else 0
    return Bounds(
        send_window_seconds=SEND_WINDOW_SECONDS,
        sms_request_seconds=SMS_REQUEST_SECONDS,
        email_request_seconds=EMAIL_REQUEST_SECONDS,
        hold_seconds=sum(one.fault.hold_seconds for one in injected),
        unsent_unconfirmed_max=hit + by_provider,
        receipts_may_be_lost=any(one.fault.receipts_lost for one in injected),
    )
