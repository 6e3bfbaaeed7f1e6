"""The statements of the model, each under the text of the product's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from simulation.model.transactions import Row, Statement

_StatementT = TypeVar("_StatementT", bound=Callable[..., Sequence[Row]])

STATEMENTS: dict[str, Statement] = {}


def statement(
    queries: Mapping[str, str], *, locks_campaign: bool = False, takes_channel: bool = False
) -> Callable[[_StatementT], _StatementT]:
    """The function does what the statement of its own name does.

    `locks_campaign`: it waits for the row of the campaign that its first argument names;
    `takes_channel`: for others that take the channel.
    """

    def register(function: _StatementT) -> _StatementT:
        function.__dict__["locks_campaign"] = locks_campaign
        function.__dict__["takes_channel"] = takes_channel
        STATEMENTS[queries[function.__name__]] = function
        return function

    return register


def known_statements() -> Mapping[str, Statement]:
    """All of them."""
    from simulation.model import (
        evidence,
        leases,
        lifecycle,
        sweeps,
        work,
    )  # they register themselves

    assert all(module.__name__ for module in (evidence, leases, lifecycle, sweeps, work))
    return STATEMENTS


def moved(number: int, attempt: int, old: int, new: int, failure_reason: int = 0) -> dict[str, Any]:
    """A row as the statements return it that move messages."""
    return {
        "number": number,
        "attempt": attempt,
        "old_status": old,
        "new_status": new,
        "failure_reason": failure_reason,
    }
