"""One campaign of a soak: made, run and looked at to its end, with a history of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from chaos.clients.campaigns import CampaignOwner
from chaos.history import Acceptance, Bounds, History
from chaos.record.exports import export_once
from chaos.record.pollers import poll_gets
from chaos.record.watchers import CampaignWatcher, restless
from outreach.client import OutreachClient
from outreach.vocabulary import Channel

_EXPORT_SECONDS = 5.0
_LOOK_SECONDS = 0.5


def recipients(channel: Channel, first: int, count: int) -> tuple[str, ...]:
    """Made-up recipients that nobody else of the soak has; for 8,000,000 messages of a channel."""
    numbers = range(first, first + count)
    if channel is Channel.EMAIL:
        return tuple(f"soak.{number}@example.org" for number in numbers)
    return tuple(f"+1500{2_000_000 + number}" for number in numbers)


class SoakCampaign:
    """A campaign, its owner, and all who look on.

    Args:
        clients: of the campaign service's replicas; the owner's is the first.
        channel: of the campaign.
        first: the number of its first recipient.
        count: how many it has.
        chance: of whoever is restless.
    """

    def __init__(
        self,
        clients: Sequence[OutreachClient],
        channel: Channel,
        first: int,
        count: int,
        chance: random.Random,
    ) -> None:
        self.channel = channel
        self.history = History(seed=0, bounds=Bounds(send_window_seconds=0))
        self.owner = CampaignOwner(
            clients[0], self.history, channel, recipients(channel, first, count)
        )
        self._clients = tuple(clients)
        self._chance = chance
        self._watchers: list[CampaignWatcher] = []

    @property
    def campaign_id(self) -> str:
        return self.owner.campaign_id

    def take(self, acceptance: Acceptance) -> None:
        """Add what the provider accepted."""
        self.history.acceptances.append(acceptance)

    @asynccontextmanager
    async def looked_at(self) -> AsyncIterator[None]:
        """Watch, poll and export it until the block ends."""
        steady = CampaignWatcher("steady", self._clients[:1], self.campaign_id, self.history)
        comes_and_goes = CampaignWatcher(
            "restless", self._clients, self.campaign_id, self.history, restless(self._chance)
        )
        self._watchers = [steady, comes_and_goes]
        tasks = [
            asyncio.create_task(looking)
            for looking in (
                *(watcher.run() for watcher in self._watchers),
                poll_gets(self._clients[-1], [self.campaign_id], self.history),
                self._keep_exporting(),
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result

    async def until_told(self, revision: int) -> None:
        """Wait until every watcher was told this revision."""
        while any(one.revision < revision for one in self._watchers):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(_LOOK_SECONDS)

    async def export(self) -> None:
        """Export it once, unless a fault is in the way."""
        await export_once(self._clients[0], self.campaign_id, self.history)

    async def _keep_exporting(self) -> None:
        while True:
            await asyncio.sleep(_EXPORT_SECONDS)
            await self.export()
