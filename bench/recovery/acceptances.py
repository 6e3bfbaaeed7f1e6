"""When the provider accepted: read from the sandbox's own journals, which go on through every restart."""

import asyncio
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import orjson

from outreach.vocabulary import Channel

#: Sending goes on when two seconds bring at least half of what the pace allows.
STEADY_SECONDS = 2.0
STEADY_SHARE = 0.5
_POLL_SECONDS = 0.02
_JOURNALS = {Channel.SMS: "messages.jsonl", Channel.EMAIL: "emails.jsonl"}


class Acceptances:
    """Times of acceptance of one channel, in seconds since the epoch, in order.

    Args:
        sandbox_dir: the data directory of the sandbox.
        channel: whose.
        pace: messages a second that are sent when nothing is wrong.
    """

    def __init__(self, sandbox_dir: Path, channel: Channel, pace: float) -> None:
        self._path = sandbox_dir / _JOURNALS[channel]
        self._position = 0
        self._times: list[float] = []
        self._steady_count = pace * STEADY_SECONDS * STEADY_SHARE

    def look(self) -> None:
        """Read what was accepted since the last look."""
        with self._path.open("rb") as journal:
            journal.seek(self._position)
            for line in journal:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                self._times += _accepted(line)

    def steady_from(self, since: float) -> float | None:
        """The first acceptance after `since` from which on sending is steady; None: not yet."""
        start = bisect_left(self._times, since)
        for index in range(start, len(self._times)):
            begun = self._times[index]
            end = bisect_left(self._times, begun + STEADY_SECONDS, lo=index)
            if end - index >= self._steady_count:
                return begun
        return None

    async def steady(self, since: float, seconds_max: float) -> float:
        """Wait for `steady_from`.

        Raises:
            TimeoutError: it did not become so within `seconds_max`.
        """
        async with asyncio.timeout(seconds_max):
            while True:
                self.look()
                if (found := self.steady_from(since)) is not None:
                    return found
                await asyncio.sleep(_POLL_SECONDS)


def _accepted(line: bytes) -> Iterator[float]:
    """The times of the messages that a line of the journal says were accepted."""
    if line.startswith(b'["accepted",'):
        yield orjson.loads(line)[1]
    elif line.startswith(b'["sent",'):
        record = orjson.loads(line)
        yield from [record[1]] * len(record[5])
