"""Who watches what. One reader a watched campaign (or organisation), however many watchers.

A wake-up over NATS, or a poll every second, makes a reader look into the change log: revisions are consecutive and
committed in order under the campaign's lock, so reading "all after the last one" can't miss any.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from nats.aio.msg import Msg

from outreach.jetstream.connection import NatsConnection
from outreach.postgres.queries import load_queries

log = structlog.get_logger()

QUERIES = load_queries("services.campaign.watch", "watch.sql")

#: A reader looks this often even when no wake-up comes.
POLL_SECONDS = 1.0
#: And at most this often when they come fast.
READ_INTERVAL_SECONDS = 0.05
READ_ROWS_MAX = 500
#: Revisions a watcher may be behind the reader before it is cut off.
BUFFERED_REVISIONS_MAX = 2_000
ALL_EVENTS = "outreach.events.*.*"

_STORE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Watcher:
    """One subscriber's buffer. `lost`: it was too slow, and what is missing must be read again."""

    def __init__(self) -> None:
        self.rows: deque[asyncpg.Record] = deque()
        self.ready = asyncio.Event()
        self.lost = False

    def offer(self, rows: list[asyncpg.Record]) -> None:
        """From the reader; never waits."""
        if len(self.rows) + len(rows) > BUFFERED_REVISIONS_MAX:
            self.lost = True
            self.rows.clear()
        else:
            self.rows.extend(rows)
        self.ready.set()


class _Feed:
    """The reader of one key (a campaign or an organisation) and its watchers."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.watchers: set[Watcher] = set()
        self.tail = -1
        self.task: asyncio.Task[None] | None = None


class WatchHub:
    """Runs the readers. `run` must be running while anyone watches."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", nats: NatsConnection) -> None:
        self._pool = pool
        self._nats = nats
        self._campaigns: dict[UUID, _Feed] = {}
        self._organisations: dict[UUID, _Feed] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.draining = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._nats.connected()  # until then the poll serves
                await self._nats.client.subscribe(ALL_EVENTS, cb=self._on_event)
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    def drain(self) -> None:
        """Every watcher's stream ends."""
        self.draining.set()
        for feed in (*self._campaigns.values(), *self._organisations.values()):
            for watcher in feed.watchers:
                watcher.ready.set()

    async def _on_event(self, message: Msg) -> None:
        _, _, organisation, campaign = message.subject.split(".")
        self.poke(UUID(organisation), UUID(campaign))

    def poke(self, organisation_id: UUID, campaign_id: UUID) -> None:
        """This campaign changed."""
        for feed in (self._campaigns.get(campaign_id), self._organisations.get(organisation_id)):
            if feed is not None:
                feed.wake.set()

    @asynccontextmanager
    async def campaign(
        self, campaign_id: UUID, position: int
    ) -> AsyncIterator[tuple[Watcher, int]]:
        """A watcher of the campaign's changes after the revision given back (at least `position`).

        What lies between `position` and that revision is read with `changes_after`.
        """
        feed = self._campaigns.get(campaign_id)
        if feed is None:
            feed = self._campaigns[campaign_id] = _Feed()
            feed.tail = position
            self._start(feed, lambda: self._read_campaign(campaign_id, feed))
        watcher = Watcher()
        feed.watchers.add(watcher)
        try:
            yield watcher, feed.tail
        finally:
            self._leave(self._campaigns, campaign_id, feed, watcher)

    @asynccontextmanager
    async def organisation(self, organisation_id: UUID) -> AsyncIterator[Watcher]:
        """A watcher whose `ready` is set when any campaign of the organisation changed, and every second."""
        feed = self._organisations.get(organisation_id)
        if feed is None:
            feed = self._organisations[organisation_id] = _Feed()
            self._start(feed, lambda: self._tell_organisation(feed))
        watcher = Watcher()
        feed.watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._leave(self._organisations, organisation_id, feed, watcher)

    def _start(self, feed: _Feed, reader: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._tasks is None:
            raise RuntimeError("the hub does not run")
        feed.task = self._tasks.create_task(reader())

    def _leave(self, feeds: dict[UUID, _Feed], key: UUID, feed: _Feed, watcher: Watcher) -> None:
        feed.watchers.discard(watcher)
        if not feed.watchers:
            if feeds.get(key) is feed:
                del feeds[key]
            if feed.task is not None:
                feed.task.cancel()

    async def changes_after(self, campaign_id: UUID, revision: int) -> list[asyncpg.Record]:
        """The next rows of the log, at most READ_ROWS_MAX."""
        rows: list[asyncpg.Record] = await self._pool.fetch(
            QUERIES["changes_after"], campaign_id, revision, READ_ROWS_MAX
        )
        return rows

    async def _read_campaign(self, campaign_id: UUID, feed: _Feed) -> None:
        while True:
            feed.wake.clear()
            try:
                rows = await self.changes_after(campaign_id, feed.tail)
            except _STORE_ERRORS as error:
                log.warning("watch_waits_for_store", error=type(error).__name__)
                rows = []
            if rows:
                feed.tail = rows[-1]["revision"]
                for watcher in feed.watchers:
                    watcher.offer(rows)
            if len(rows) < READ_ROWS_MAX:
                await asyncio.sleep(READ_INTERVAL_SECONDS)
                await _wait(feed.wake, POLL_SECONDS)

    async def _tell_organisation(self, feed: _Feed) -> None:
        while True:
            await _wait(feed.wake, POLL_SECONDS)
            feed.wake.clear()
            for watcher in feed.watchers:
                watcher.ready.set()
            await asyncio.sleep(READ_INTERVAL_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
