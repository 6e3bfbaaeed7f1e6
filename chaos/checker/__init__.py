"""Our promises, held against a history: `check` tells every violation of I1 to I12. Pure, and linear in the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from chaos.checker.bounds import check_bounds
from chaos.checker.channels import check_channels
from chaos.checker.counts import check_counts
from chaos.checker.known import check_known
from chaos.checker.lifecycle import check_completion, check_ends, check_steps
from chaos.checker.record import CampaignRecord, records_of
from chaos.checker.safety import check_forged
from chaos.checker.sends import check_once, check_opt_outs, check_stops
from chaos.checker.violation import Violation
from chaos.checker.watching import check_watching
from chaos.history import History

__all__ = ["INVARIANTS", "Violation", "check"]

INVARIANTS: Final[Mapping[str, str]] = {
    "I1": "Every message that was run ends final.",
    "I2": "At most one accepted send for each message and run.",
    "I3": "Every accepted send is known to the database, and nothing else is taken for one.",
    "I4": "Counts are those of the messages, in every snapshot, event and export.",
    "I5": "A message's status only moves forward, by the lifecycle's table.",
    "I6": "Never two running campaigns on a channel.",
    "I7": "No send starts later than a stop and the send window.",
    "I8": "A watcher is told each change once, in order, and ends with what the database has.",
    "I9": "A run completes once, and only when all of its messages are final.",
    "I10": "No send starts later than an opt-out's commit and the send window.",
    "I11": "Forged and replayed webhooks change nothing.",
    "I12": "Memory and queues stay bounded.",
}

_Check = Callable[[History, Mapping[str, CampaignRecord]], Iterator[Violation]]

_CHECKS: Final[tuple[_Check, ...]] = (
    check_ends,
    check_once,
    check_known,
    check_counts,
    check_steps,
    check_channels,
    check_stops,
    check_watching,
    check_completion,
    check_opt_outs,
    check_forged,
    check_bounds,
)


def check(history: History) -> list[Violation]:
    """All violations, by invariant; empty: every promise held."""
    records = records_of(history)
    return [violation for one in _CHECKS for violation in one(history, records)]
