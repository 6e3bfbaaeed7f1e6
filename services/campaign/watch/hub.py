"""Who watches what. One reader a watched campaign (or organisation), however many watchers.

A wake-up over NATS, or a poll every second, makes a reader look. Nothing depends on a wake-up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID

import asyncpg
import structlog
from nats.aio.msg import Msg

from outreach.errors import OutreachError
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from services.campaign.watch.campaign_feed import CampaignFeed
from services.campaign.watch.feed import Feed
from services.campaign.watch.organisation_feed import OrganisationFeed

log = structlog.get_logger()

ALL_EVENTS = "outreach.events.*.*"
SUBSCRIBE_RETRY_SECONDS = 1.0

_FeedT = TypeVar("_FeedT", bound=Feed)


class WatchHub:
    """Runs the readers. Nothing can be watched before `run` has begun, nor after `drain`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", nats: NatsConnection) -> None:
        self._pool = pool
        self._nats = nats
        self._campaigns: dict[UUID, CampaignFeed] = {}
        self._organisations: dict[UUID, OrganisationFeed] = {}
        self._readers: dict[Feed, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._draining = False

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._subscribe()
                await asyncio.Event().wait()
            finally:
                self._tasks = None
                self.drain()

    async def _subscribe(self) -> None:
        """Until then the poll serves. The subscription is made again by nats-py after each reconnect."""
        await self._nats.connected()
        while True:
            try:
                await self._nats.client.subscribe(ALL_EVENTS, cb=self._on_event)
            except NATS_FAULTS as error:
                log.warning("watch_has_no_wakeups", error=type(error).__name__)
                await asyncio.sleep(SUBSCRIBE_RETRY_SECONDS)
            else:
                return

    async def _on_event(self, message: Msg) -> None:
        _, _, organisation, campaign = message.subject.split(".")
        self.poke(UUID(organisation), UUID(campaign))

    def poke(self, organisation_id: UUID, campaign_id: UUID) -> None:
        """This campaign changed."""
        one = self._campaigns.get(campaign_id)
        if one is not None:
            one.wake.set()
        many = self._organisations.get(organisation_id)
        if many is not None:
            many.poke(campaign_id)

    def drain(self) -> None:
        """Every watcher's stream ends, and no new one begins."""
        self._draining = True
        for feed in self._readers:
            feed.tell()

    @property
    def is_draining(self) -> bool:
        """Whether the service stops."""
        return self._draining

    def check_draining(self) -> None:
        """SERVER_DRAINING once the service stops."""
        if self._draining:
            raise OutreachError(
                "SERVER_DRAINING", "The server stops; watch again with the last token."
            )

    @property
    def readers(self) -> int:
        """How many readers run."""
        return len(self._readers)

    @asynccontextmanager
    async def campaign(self, campaign_id: UUID, revision: int) -> AsyncIterator[CampaignFeed]:
        """The feed of a campaign that is at `revision` or a little further."""
        async with self._joined(
            self._campaigns, campaign_id, lambda: CampaignFeed(self._pool, campaign_id, revision)
        ) as feed:
            yield feed

    @asynccontextmanager
    async def organisation(self, organisation_id: UUID) -> AsyncIterator[OrganisationFeed]:
        """The feed of all of an organisation's campaigns."""
        async with self._joined(
            self._organisations,
            organisation_id,
            lambda: OrganisationFeed(self._pool, organisation_id),
        ) as feed:
            yield feed

    @asynccontextmanager
    async def _joined(
        self, feeds: dict[UUID, _FeedT], key: UUID, make: Callable[[], _FeedT]
    ) -> AsyncIterator[_FeedT]:
        """The key's feed, with its reader running from the first watcher to the last."""
        self.check_draining()
        feed = feeds.get(key)
        if feed is None:
            if self._tasks is None:
                raise OutreachError("SERVER_DRAINING", "The server starts; watch again.")
            feed = make()
            self._readers[feed] = self._tasks.create_task(feed.run())
            feeds[key] = feed
        feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                del feeds[key]
                self._readers.pop(feed).cancel()
