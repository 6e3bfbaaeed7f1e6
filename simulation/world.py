"""What everything in a simulation shares: the loop, the seed's randomness, the history, and processes that can die."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from simulation.clock import START_SECONDS, VirtualLoop


class History:
    """What happened, line by line, each with its virtual time. Kept only where somebody reads it."""

    def __init__(self, loop: VirtualLoop, *, is_kept: bool) -> None:
        self._loop = loop
        self.is_kept = is_kept
        self.lines: list[str] = []

    def tell(self, source: str, text: str) -> None:
        """One line."""
        if self.is_kept:
            seconds = self._loop.time() - START_SECONDS
            self.lines.append(f"{seconds:9.4f}  {source:<12} {text}")


class World:
    """One seed's."""

    def __init__(self, loop: VirtualLoop, seed: int, *, keeps_history: bool) -> None:
        self.loop = loop
        self.seed = seed
        self.history = History(loop, is_kept=keeps_history)
        #: Cleared when the faults are over: from then on everything works.
        self.is_faulty = True
        #: How likely a message of a stream is held up for seconds, while there are faults.
        self.stall = self.random("stall").choice((0.0, 0.01, 0.04))
        self._waiting: dict[str, list[asyncio.Future[Process]]] = {}
        #: What went wrong in the run itself.
        self.failures: list[str] = []

    def fail(self, text: str) -> None:
        """The run has shown a fault; it goes on, as what follows may tell more."""
        self.failures.append(text)
        self.history.tell("FAULT", text)

    def reached(self, point: str, process: "Process") -> None:
        """A process is at a point where faults may wait for it."""
        for waiting in self._waiting.pop(point, ()):
            if not waiting.done():
                waiting.set_result(process)

    async def next_reached(self, point: str) -> "Process":
        """Wait until a process gets there; which one."""
        waiting: asyncio.Future[Process] = self.loop.create_future()
        self._waiting.setdefault(point, []).append(waiting)
        return await waiting

    def random(self, name: str) -> random.Random:
        """A source of its own for each part, so that what one draws does not move the others."""
        return random.Random(f"{self.seed}:{name}")

    def now(self) -> float:
        """Virtual seconds, on the loop's clock."""
        return self.loop.time()


class ProcessKilled(ConnectionResetError):
    """A dead process reaches nobody, and nobody reaches it."""


class Process:
    """A process that can be killed: from then on nothing of it has any effect."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run something that dies with the process. Its failure is the run's."""
        task = asyncio.create_task(work, name=f"{self.name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def require_alive(self) -> None:
        """Raise ProcessKilled once it is dead."""
        if not self.alive:
            raise ProcessKilled(self.name)

    async def kill(self) -> None:
        """At once: nothing of it reaches anybody any more. Returns when its tasks are gone."""
        self.alive = False
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
