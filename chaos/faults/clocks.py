"""Wall clocks that jump."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.faults.fault import Fault, FaultKind, Topology
from chaos.stack import ChaosStack

_HOURS: Final = (-26.0, -1.0, 1.0, 6.0, 26.0)
_SECONDS: Final = (1.0, 3.0, 6.0)
_SECONDS_PER_HOUR: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJump(Fault):
    """A process's wall clock jumps by hours, and after a while back. Its monotonic clock goes on."""

    hours: float
    seconds: float

    async def inject(self, stack: ChaosStack) -> None:
        control = stack.control(self.target)
        control.set_clock(self.hours * _SECONDS_PER_HOUR)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            control.set_clock(0.0)


def _jump(kind: str, target: str, random: Random) -> Fault:
    return ClockJump(
        kind=kind, target=target, hours=random.choice(_HOURS), seconds=random.choice(_SECONDS)
    )


def _of_sender(random: Random, topology: Topology, _: bool) -> Fault:
    return _jump("clock-jump-sender", random.choice(topology.senders), random)


def _of_campaign(random: Random, topology: Topology, _: bool) -> Fault:
    return _jump("clock-jump-campaign", random.choice(topology.campaigns), random)


KINDS: Final = (
    FaultKind("clock-jump-sender", "A sender's wall clock jumps by hours.", _of_sender),
    FaultKind("clock-jump-campaign", "A campaign service's clock jumps by hours.", _of_campaign),
)
