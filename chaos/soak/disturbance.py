"""The faults of a soak: one a minute, of every kind in turn, and never such that would hide a leak.

A process that is killed begins anew, and so does its memory. So the first replica of each service
is never killed: faults stop it, cut it off, hold its links and turn its clock, but it lives from the
beginning of the soak to its end. Kills and crashes hit the other replicas, PostgreSQL, NATS and the
sandbox; what would end every process (`LEFT_OUT`) is left to chaos runs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from chaos.faults import FAULTS, Fault, FaultKind, Topology
from chaos.history import FaultDone
from chaos.stack import ChaosStack

#: Kinds that end every process.
LEFT_OUT: Final = frozenset({"kill-all", "rolling-restart"})
#: How the names of kinds begin that end a process, or may.
_ENDING: Final = ("kill-", "crash-at:")


class Mortals(Topology):
    """Of a topology those processes that may be ended: all but the first of each service."""

    @classmethod
    def of(cls, topology: Topology) -> Mortals:
        """Those of a topology with two replicas of each service, or more."""
        return cls(
            campaign_replicas=topology.campaign_replicas,
            sender_replicas=topology.sender_replicas,
            email_sender_replicas=topology.email_sender_replicas,
            export_replicas=topology.export_replicas,
        )

    @property
    def campaigns(self) -> tuple[str, ...]:
        return super().campaigns[1:]

    @property
    def sms_senders(self) -> tuple[str, ...]:
        return super().sms_senders[1:]

    @property
    def email_senders(self) -> tuple[str, ...]:
        return super().email_senders[1:]

    @property
    def exports(self) -> tuple[str, ...]:
        return super().exports[1:]


@dataclass(frozen=True)
class Injected:
    """A fault, and when; `done.ended_time` is infinite while it goes on."""

    fault: Fault
    done: FaultDone


def faults_in_turn(
    kinds: Mapping[str, FaultKind], topology: Topology, chance: random.Random
) -> Iterator[Fault]:
    """A fault of every kind once in each round, in an order of its own, for ever."""
    names = sorted(kinds.keys() - LEFT_OUT)
    while True:
        chance.shuffle(names)
        for name in names:
            hit = Mortals.of(topology) if name.startswith(_ENDING) else topology
            yield kinds[name].draw(chance, hit)


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
        for turn, fault in enumerate(faults_in_turn(FAULTS, self._topology, self._chance), 1):
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
