"""Deliberate breaks of a good history: for each invariant what it would look like if it did not hold.

A break is as consistent as it can be, so that what is told of it is the one promise that it breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from chaos.history import Acceptance, History

Row = TypeVar("Row", bound=Any)
Break = Callable[[], History]

#: By invariant and name; filled by the modules of breaks.
BREAKS: dict[tuple[str, str], Break] = {}


def breaks(invariant: str) -> Callable[[Break], Break]:
    """Add it under its own name."""

    def add(made: Break) -> Break:
        BREAKS[invariant, made.__name__] = made
        return made

    return add


def alter(rows: list[Row], which: Callable[[Row], bool], /, **changed: Any) -> None:
    """The first row that it is true of."""
    index = next(index for index, row in enumerate(rows) if which(row))
    rows[index] = replace(rows[index], **changed)


def accepted(history: History, campaign_id: str, number: int, attempt: int) -> Acceptance:
    return next(
        a
        for a in history.acceptances
        if (a.campaign_id, a.number, a.attempt) == (campaign_id, number, attempt)
    )
