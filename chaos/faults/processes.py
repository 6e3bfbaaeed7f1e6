"""Processes that die, hang, or are restarted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import psutil

from chaos.faults.fault import (
    RECEIPT_PATIENCE_SECONDS,
    REQUEST_SECONDS_MIN,
    Fault,
    FaultKind,
    Topology,
    calls_max,
)
from chaos.stack import ChaosStack

_SERVERS: Final = ("postgres", "nats")
_DOWN_SECONDS: Final = (0.0, 0.0, 1.0, 3.0)
_HANG_SECONDS: Final = (1.0, 3.0, 8.0)
_HANG_SECONDS_LONG: Final = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed(Fault):
    """A process gets a signal that ends it at once, and is started again after a while."""

    number: signal.Signals = signal.SIGKILL
    down_seconds: float = 0.0

    async def inject(self, stack: ChaosStack) -> None:
        await stack.kill(self.target, self.number, down_seconds=self.down_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllKilled(Fault):
    """Every process but the provider is killed in the same moment, as when the machine fails."""

    processes: tuple[str, ...]

    async def inject(self, stack: ChaosStack) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in self.processes:
                tasks.create_task(stack.kill(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hung(Fault):
    """A process and all that it has started do nothing for a while (SIGSTOP), and then go on (SIGCONT)."""

    seconds: float

    async def inject(self, stack: ChaosStack) -> None:
        pid = stack.local.supervisor.pid(self.target)
        if pid is None:
            return
        stopped = stop_tree(pid)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            continue_tree(stopped)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingRestart(Fault):
    """Every process but the provider is asked to stop and started again, one after the other."""

    processes: tuple[str, ...]

    async def inject(self, stack: ChaosStack) -> None:
        for name in self.processes:
            # PostgreSQL's fast shutdown; its answer to SIGTERM is to wait for its clients.
            number = signal.SIGINT if name == "postgres" else signal.SIGTERM
            await stack.kill(name, number)


def stop_tree(pid: int) -> list[psutil.Process]:
    """SIGSTOP a process, then its children, who then can't become more; those that were stopped."""
    stopped: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        parent.suspend()
        stopped.append(parent)
        for child in parent.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.suspend()
                stopped.append(child)
    return stopped


def continue_tree(stopped: Sequence[psutil.Process]) -> None:
    """SIGCONT to those that still are."""
    for process in reversed(stopped):
        with suppress(psutil.NoSuchProcess):
            process.resume()


Processes = Callable[[Topology], Sequence[str]]


def _kill(name: str, processes: Processes) -> FaultKind:
    kind = f"kill-{name}"

    def make(random: Random, topology: Topology, _: bool) -> Fault:
        target = random.choice(processes(topology))
        down_seconds = random.choice(_DOWN_SECONDS)
        return Killed(
            kind=kind,
            target=target,
            down_seconds=down_seconds,
            unsent_max=_calls_hit(target, topology),
        )

    return FaultKind(kind, f"SIGKILL to a process of {name}.", make)


def _hang(name: str, processes: Processes) -> FaultKind:
    kind = f"hang-{name}"

    def make(random: Random, topology: Topology, long: bool) -> Fault:
        target = random.choice(processes(topology))
        seconds = _HANG_SECONDS_LONG if long else random.choice(_HANG_SECONDS)
        holds = target in topology.senders or target == "sandbox"
        senders = topology.senders if target == "sandbox" else ()
        takes_receipts = target in (*topology.senders, *_SERVERS)
        return Hung(
            kind=kind,
            target=target,
            seconds=seconds,
            hold_seconds=seconds if holds else 0.0,
            receipts_lost=takes_receipts and seconds > RECEIPT_PATIENCE_SECONDS,
            unsent_max=calls_max(senders, seconds=seconds)
            if senders
            else _given_up(target, topology, seconds),
        )

    return FaultKind(kind, f"A process of {name} is stopped for seconds, with its children.", make)


def _given_up(target: str, topology: Topology, seconds: float) -> int:
    """Calls of a sender that goes on too late to hear that its request was refused, or to try it again (429)."""
    too_late = target in topology.senders and seconds >= REQUEST_SECONDS_MIN
    return calls_max([target]) if too_late else 0


def _calls_hit(target: str, topology: Topology) -> int:
    """Calls that are under way when this process dies."""
    if target == "sandbox":
        return calls_max(topology.senders)
    return calls_max([target]) if target in topology.senders else 0


def _stop_postgres(random: Random, _topology: Topology, _long: bool) -> Fault:
    return Killed(
        kind="stop-postgres-immediate",
        target="postgres",
        number=signal.SIGQUIT,
        down_seconds=random.choice(_DOWN_SECONDS),
    )


def _kill_all(_random: Random, topology: Topology, _long: bool) -> Fault:
    return AllKilled(
        kind="kill-all",
        target="all",
        processes=(*_SERVERS, *topology.services),
        unsent_max=calls_max(topology.senders),
    )


def _rolling_restart(random: Random, topology: Topology, _long: bool) -> Fault:
    processes = [*_SERVERS, *topology.services]
    random.shuffle(processes)
    return RollingRestart(kind="rolling-restart", target="all", processes=tuple(processes))


_PROCESSES: Final[dict[str, Processes]] = {
    "campaign": lambda topology: topology.campaigns,
    "sender-sms": lambda topology: topology.sms_senders,
    "sender-email": lambda topology: topology.email_senders,
    "export": lambda topology: topology.exports,
    "sandbox": lambda _: ("sandbox",),
    "nats": lambda _: ("nats",),
    "postgres": lambda _: ("postgres",),
}

KINDS: Final = (
    *(_kill(name, processes) for name, processes in _PROCESSES.items()),
    *(_hang(name, processes) for name, processes in _PROCESSES.items()),
    FaultKind(
        "stop-postgres-immediate",
        "PostgreSQL ends without a checkpoint (`pg_ctl stop -m immediate`).",
        _stop_postgres,
    ),
    FaultKind("kill-all", "SIGKILL to everything but the provider at once.", _kill_all),
    FaultKind(
        "rolling-restart", "Everything but the provider is restarted in turn.", _rolling_restart
    ),
)
