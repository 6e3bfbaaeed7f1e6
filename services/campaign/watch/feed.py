"""What every reader of the watch service does: look when woken and every second, and tell who waits."""

import asyncio
from abc import ABC, abstractmethod

import structlog

from outreach.cancellation import raise_if_cancelled
from outreach.errors import OutreachError
from outreach.postgres.outage import STORE_ERRORS, is_outage
from outreach.postgres.queries import load_queries

log = structlog.get_logger()

QUERIES = load_queries("services.campaign.watch", "watch.sql")

#: A reader looks this often even when no wake-up comes.
POLL_SECONDS = 1.0
#: And at most this often when they come fast.
LOOK_INTERVAL_SECONDS = 0.05


class Feed(ABC):
    """One reader, and any number of watchers that each remember where they are."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.watchers = 0
        self._news = asyncio.Event()
        self._failing = False

    @property
    def news(self) -> asyncio.Event:
        """Set at the next news. Take it before looking for news, and wait on it after: so none is missed."""
        return self._news

    def tell(self) -> None:
        """Wake every watcher."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def require_readable(self) -> None:
        """STORE_UNAVAILABLE when the last look failed: a heartbeat would say that nothing happened."""
        if self._failing:
            raise OutreachError(
                "STORE_UNAVAILABLE",
                "The database can't be reached now. Watch again with the last token.",
            )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            raise_if_cancelled()
            self.wake.clear()
            more = False
            try:
                more = await self._look()
                self._failing = False
            except STORE_ERRORS as error:
                self._failing = True
                if is_outage(error):
                    log.warning("watch_waits_for_store", error=type(error).__name__)
                else:
                    log.exception("watch_look_failed")
                self.tell()
            if not more:
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)
                await wait(self.wake, POLL_SECONDS)

    @abstractmethod
    async def _look(self) -> bool:
        """Read what is new and tell the watchers; True: there is more to read at once."""


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within so long."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
