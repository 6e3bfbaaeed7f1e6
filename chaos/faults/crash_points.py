"""Deaths at the places in the code where they are worst."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.control import Crash
from chaos.crashes import ARMABLE
from chaos.faults.fault import Fault, FaultKind, Topology, calls_max
from chaos.stack import ChaosStack

#: A point is hit in the middle of a run, not always at its first time: of what is reached for each message, and of
#: what is reached for many at a time.
_NTH_OF_MESSAGES_MAX: Final = 200
_NTH_MAX: Final = 3
_EACH_MESSAGE: Final = ("request-", "webhook-")
_SECONDS_MAX: Final = 10.0
_POLL_SECONDS: Final = 0.02
#: Reached once in a run, or not at all.
_RARE: Final = (
    "adoption-", "cancel-", "completion-", "deletion-", "import-", "instance-", "retry-", "stop-",
)  # fmt: skip


#: Reached by whoever settles what a dead sender has left.
_AFTER_A_DEATH: Final = ("adoption-", "instance-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed(Fault):
    """Armed in all replicas of a service: those that come by the point die there, until one has. A point that nobody
    comes by in time is disarmed, and nothing has happened.

    Attributes:
        processes: the replicas.
        crash: where.
        killed_first: a sender that is killed once it is armed, where that is what leads there.
    """

    processes: tuple[str, ...]
    crash: Crash
    killed_first: str = ""

    @property
    def details(self) -> str:
        after = f", after a kill of {self.killed_first}" if self.killed_first else ""
        return f"the {self.crash.nth}. time in {' '.join(self.processes)}{after}"

    async def inject(self, stack: ChaosStack) -> None:
        for name in self.processes:
            stack.control(name).arm(self.crash)
        try:
            if self.killed_first:
                await stack.kill(self.killed_first)
            for _ in range(int(_SECONDS_MAX / _POLL_SECONDS)):
                if any(self._crashed(stack).values()):
                    break
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            for name in self.processes:
                stack.control(name).disarm()
        for name, pid in self._crashed(stack).items():
            if pid is not None:
                stack.crashes.append((name, self.crash.point))
                await stack.restarted(name, pid)

    def _crashed(self, stack: ChaosStack) -> dict[str, int | None]:
        return {name: stack.control(name).crashed_pid() for name in self.processes}


def _kind(point: str) -> FaultKind:
    service, meaning = ARMABLE[point]
    kind = f"crash-at:{point}"

    def make(random: Random, topology: Topology, _: bool) -> Fault:
        processes = topology.campaigns
        if service == "sender":
            processes = random.choice((topology.sms_senders, topology.email_senders))
        killed_first = ""
        if point.startswith(_AFTER_A_DEATH):
            killed_first = random.choice(processes if service == "sender" else topology.senders)
        nth_max = _NTH_OF_MESSAGES_MAX if point.startswith(_EACH_MESSAGE) else _NTH_MAX
        nth = 1 if point.startswith(_RARE) else random.randint(1, nth_max)
        return Crashed(
            kind=kind,
            target=service if service == "campaign" else processes[0].rstrip("0123456789-"),
            processes=processes,
            crash=Crash(point, nth),
            killed_first=killed_first,
            unsent_max=calls_max(processes if service == "sender" else [killed_first])
            if service == "sender" or killed_first
            else 0,
        )

    return FaultKind(kind, f"SIGKILL at a point of the {service}: {meaning}", make)


KINDS: Final = tuple(map(_kind, ARMABLE))
