"""Virtual time: an event loop whose clock jumps to the next thing to do, so an hour of waiting costs nothing.

While a real database answers (`real_io`), the clock stands still: to the product its answer takes no time.
"""

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import uuid_utils

_T = TypeVar("_T")

#: Where virtual time begins, on `time.monotonic`.
START_SECONDS = 1_000.0
#: Where it begins on `time.time`: a Friday in 2023.
START_EPOCH_SECONDS = 1_700_000_000.0
#: A database that says nothing for so long (real seconds) hangs.
REAL_IO_SECONDS_MAX = 30.0
#: A seed takes some ten thousand turns of the loop. One that takes so many runs in circles.
TURNS_MAX = 3_000_000


class Stuck(Exception):
    """Everything waits for something that nothing will bring about, or runs in circles."""


class _Task(asyncio.Task[_T]):
    """A task whose hash is its number: a TaskGroup cancels its tasks in the order of a set, which
    otherwise follows their addresses and differs from one run of a seed to the next.
    """

    count = 0

    def __init__(self, coro: Coroutine[Any, Any, _T], **options: Any) -> None:
        _Task.count += 1
        self._number = _Task.count
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    return _Task(coro, loop=loop, **options)


class _Selector(selectors.DefaultSelector):
    """Instead of sleeping it moves the loop's clock."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self.loop.wait_for_events(timeout, super().select)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of one seed. `has_real_io`: there are sockets beside it, so they are looked at each turn."""

    def __init__(self, *, has_real_io: bool = False) -> None:
        self._virtual_seconds = START_SECONDS
        self._has_real_io = has_real_io
        self._real_calls = 0
        self._turns = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        _Task.count = 0
        self.set_task_factory(_task)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._virtual_seconds

    @contextmanager
    def real_io(self) -> Iterator[None]:
        """While this lasts, virtual time stands still."""
        self._real_calls += 1
        try:
            yield
        finally:
            self._real_calls -= 1

    def wait_for_events(
        self,
        timeout: float | None,
        poll: Callable[[float], list[tuple[selectors.SelectorKey, int]]],
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """The selector's part of a turn; `timeout` until the next timer, None: there is none."""
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Stuck("the loop runs in circles")
        if timeout == 0:
            return poll(0) if self._has_real_io else []
        if self._real_calls:
            events = poll(REAL_IO_SECONDS_MAX)
            if not events:
                raise Stuck("the database does not answer")
            return events
        if timeout is None:
            raise Stuck("nothing is left to do, and the run has not ended")
        self._virtual_seconds += timeout
        return poll(0) if self._has_real_io else []


@contextmanager
def virtual_time(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """The product's clocks, and what it draws of `random` and of UUIDs, follow the loop and the seed."""
    ids = random.Random(f"{seed}:ids")
    known = (time.monotonic, time.time, uuid_utils.uuid7, random.getstate())

    def next_id() -> UUID:
        milliseconds = int(time.time() * 1000)
        return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | ids.getrandbits(61))

    time.monotonic = loop.time
    time.time = lambda: START_EPOCH_SECONDS - START_SECONDS + loop.time()
    uuid_utils.uuid7 = next_id  # type: ignore[assignment]  # the product takes its text only
    random.seed(seed)
    try:
        yield
    finally:
        time.monotonic, time.time, uuid_utils.uuid7 = known[:3]
        random.setstate(known[3])
