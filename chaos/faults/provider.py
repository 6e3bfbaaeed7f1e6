"""A provider that takes nothing for a while; its other faults are knobs of a run (lost, doubled, late callbacks)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.faults.fault import Fault, FaultKind, Topology
from chaos.stack import ChaosStack

_SECONDS: Final = (1.0, 4.0)
_SECONDS_LONG: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Fault):
    """Every API request of both providers is answered with one status, and nothing is accepted.

    A 503 leaves open what became of the request, so such messages may end UNCONFIRMED: the sandbox counts these
    answers (`unavailable`), and the run's bounds take them from there.
    """

    status: int
    seconds: float

    async def inject(self, stack: ChaosStack) -> None:
        async with stack.local.sandbox_client() as sandbox:
            await sandbox.change_knobs(_unavailable(self.status))
            try:
                await asyncio.sleep(self.seconds)
            finally:
                await sandbox.change_knobs(_unavailable(0))


def _unavailable(status: int) -> dict[str, object]:
    return {"unavailable_status": status, "email": {"unavailable_status": status}}


def _unavailable_kind(name: str, summary: str, status: int) -> FaultKind:
    def make(random: Random, _: Topology, long: bool) -> Fault:
        seconds = _SECONDS_LONG if long else random.choice(_SECONDS)
        return Outage(kind=name, target="sandbox", status=status, seconds=seconds)

    return FaultKind(name, summary, make)


KINDS: Final = (
    _unavailable_kind("provider-503", "The providers answer 503 to everything.", 503),
    _unavailable_kind("provider-429-storm", "The providers answer 429 to everything.", 429),
)
