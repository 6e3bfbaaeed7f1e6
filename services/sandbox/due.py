"""Work with a due time, many hundred thousand items of it, eight bytes each."""

import asyncio
import heapq
import time
from array import array

_TICK_SECONDS = 0.01


class DueQueue:
    """Items are non-negative integers; they come out in the order of their times, to 10 ms."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._buckets: dict[int, array[int]] = {}
        self._filled = asyncio.Event()

    def add(self, at: float, item: int) -> None:
        """Have the item come out at this time (seconds since the epoch)."""
        tick = int(at / _TICK_SECONDS) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = array("Q")
            heapq.heappush(self._ticks, tick)
            self._filled.set()
        bucket.append(item)

    def is_due(self, now: float) -> bool:
        """Whether an item is to come out."""
        return bool(self._ticks) and self._ticks[0] * _TICK_SECONDS <= now

    def take(self, now: float, most: int) -> list[int]:
        """The items that are due, in order, at most about so many of them.

        For a caller that has a loop of its own, instead of `run`.
        """
        taken: list[int] = []
        while len(taken) < most and self.is_due(now):
            taken.extend(self._buckets.pop(heapq.heappop(self._ticks)))
        return taken

    def clear(self) -> None:
        """Forget all items."""
        self._ticks.clear()
        self._buckets.clear()

    async def run(self, out: asyncio.Queue[int]) -> None:
        """Put the due items into `out`, for ever; a full `out` holds the rest back."""
        while True:
            if not self._ticks:
                self._filled.clear()
                await self._filled.wait()
            wait_seconds = self._ticks[0] * _TICK_SECONDS - time.time()
            if wait_seconds > 0:
                # Not the whole wait: an earlier item may be added meanwhile.
                await asyncio.sleep(min(wait_seconds, _TICK_SECONDS))
                continue
            for item in self._buckets.pop(heapq.heappop(self._ticks)):
                await out.put(item)
