"""The faults of a soak: one a minute, of every kind in turn, and never such that would hide a leak.

A process that is killed begins anew, and so does its memory. So the first replica of each service
is never killed: faults stop it, cut it off and hold its links, but it lives from the beginning of
the soak to its end. Kills hit the others, PostgreSQL and NATS.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from chaos.faults import FAULTS, Fault, FaultKind, Topology
from chaos.history import FaultDone
from chaos.stack import ChaosStack

#: These end processes that have to live, or need knobs that a soak has not.
LEFT_OUT = frozenset({"kill-all", "rolling-restart"})
#: Kinds that end a process; all others leave it alive.
_ENDING = ("kill-", "crash-at")
_DRAWS_MAX = 100


@dataclass(frozen=True)
class Injected:
    """A fault, and when; `done.ended_time` is infinite while it goes on."""

    fault: Fault
    done: FaultDone


def ends_a_long_life(fault: Fault) -> bool:
    """Whether it ends the process of a service that has to live."""
    return fault.kind.startswith(_ENDING) and fault.target.endswith("-1")


def kinds_in_turn(kinds: Mapping[str, FaultKind], chance: random.Random) -> Iterator[FaultKind]:
    """Every kind once in each round, in an order of its own."""
    names = sorted(kinds.keys() - LEFT_OUT)
    while True:
        chance.shuffle(names)
        yield from (kinds[name] for name in names)


def draw(kind: FaultKind, chance: random.Random, topology: Topology) -> Fault | None:
    """A fault of the kind that ends no long life; None: it has none."""
    for _ in range(_DRAWS_MAX):
        fault = kind.draw(chance, topology)
        if not ends_a_long_life(fault):
            return fault
    return None


class Disturbance:
    """Injects a fault every so often, and knows which were under way when."""

    def __init__(self, stack: ChaosStack, topology: Topology, seed: int) -> None:
        self.injected: list[Injected] = []
        self.failures: list[str] = []
        self._stack = stack
        self._topology = topology
        self._chance = random.Random(f"{seed}:faults")

    async def run(self, every_seconds: float, seconds: float) -> None:
        """Begin a fault every so often for so long; the first one comes after one interval."""
        begun = time.monotonic()
        turn = 0
        for kind in kinds_in_turn(FAULTS, self._chance):
            fault = draw(kind, self._chance, self._topology)
            if fault is None:
                continue
            turn += 1
            if turn * every_seconds >= seconds:
                return
            await asyncio.sleep(begun + turn * every_seconds - time.monotonic())
            await self._inject(fault)

    def since(self, begun_time: float) -> list[Injected]:
        """Those that were under way at that time or later."""
        return [one for one in self.injected if one.done.ended_time >= begun_time]

    async def _inject(self, fault: Fault) -> None:
        now = time.time()
        done = FaultDone(
            kind=fault.kind,
            target=fault.target,
            begun_time=now,
            ended_time=float("inf"),
            details=str(fault.details),
        )
        self.injected.append(Injected(fault, done))
        try:
            await fault.inject(self._stack)
        except Exception as error:  # noqa: BLE001 - told at the end; the soak goes on without it
            self.failures.append(f"{fault.kind} {fault.target}: {type(error).__name__}: {error}")
        self.injected[-1] = Injected(fault, replace(done, ended_time=time.time()))
