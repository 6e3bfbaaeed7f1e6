"""Deaths at the places in the code where they are worst."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.control import Crash
from chaos.crashes import ARMABLE
from chaos.faults.fault import Fault, FaultKind, Topology, calls_max
from chaos.stack import ChaosStack

#: A point is hit in the middle of a run, not always at its first time: of what a sender of text messages does for
#: each of them, and of what is done for many at a time.
_NTH_OF_MESSAGES_MAX: Final = 200
_NTH_MAX: Final = 3
_EACH_MESSAGE: Final = ("request-", "webhook-")
#: Reached once or a few times in a run, or only when a client does something.
_RARE: Final = (
    "adoption-", "cancel-", "completion-", "deletion-", "dispatch-", "import-", "instance-",
    "retry-", "stop-", "sweep-",
)  # fmt: skip
#: Reached by whoever settles what a dead sender has left.
_AFTER_A_DEATH: Final = ("adoption-", "instance-")
_SECONDS_MAX: Final = 10.0
#: Reached at the end of a run only.
_LATE: Final = ("completion-", "sweep-")
_LATE_SECONDS_MAX: Final = 40.0
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed(Fault):
    """Armed in all replicas of a service: those that come by the point die there, until one has. A point that nobody
    comes by in time is disarmed, and nothing has happened.

    Attributes:
        processes: the replicas.
        crash: where.
        killed_first: a sender that is killed once it is armed, where that is what leads there.
        seconds_max: for so long it is armed.
    """

    processes: tuple[str, ...]
    crash: Crash
    killed_first: str = ""
    seconds_max: float = _SECONDS_MAX

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
            for _ in range(int(self.seconds_max / _POLL_SECONDS)):
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
        dying = processes if service == "sender" else [killed_first] if killed_first else []
        return Crashed(
            kind=kind,
            target=processes[0].rstrip("0123456789-"),
            processes=processes,
            crash=Crash(point, random.randint(1, _nth_max(point, processes))),
            killed_first=killed_first,
            seconds_max=_LATE_SECONDS_MAX if point.startswith(_LATE) else _SECONDS_MAX,
            unsent_max=calls_max(dying),
        )

    return FaultKind(kind, f"SIGKILL at a point of the {service}: {meaning}", make)


def _nth_max(point: str, processes: Sequence[str]) -> int:
    if point.startswith(_RARE):
        return 1
    each_message = point.startswith(_EACH_MESSAGE) and "sms" in processes[0]
    return _NTH_OF_MESSAGES_MAX if each_message else _NTH_MAX


KINDS: Final = tuple(map(_kind, ARMABLE))
