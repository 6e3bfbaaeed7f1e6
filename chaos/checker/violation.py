"""What a check of a history finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that did not hold: which one, what happened, and to which campaign (empty: to none alone)."""

    invariant: str
    text: str
    campaign_id: str = ""

    def __str__(self) -> str:
        where = f" (campaign {self.campaign_id})" if self.campaign_id else ""
        return f"{self.invariant}: {self.text}{where}"
