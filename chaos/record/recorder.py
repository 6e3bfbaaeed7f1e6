"""All who look on while a run goes on: watchers, pollers, exporters, a sampler."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from chaos.history import History
from chaos.record.exports import export_once
from chaos.record.pollers import poll_gets, poll_lists
from chaos.record.watchers import CampaignWatcher, restless, watch_all
from chaos.resources import Sampler
from outreach.client import OutreachClient
from outreach.local.stack import LocalStack

_LOOK_SECONDS = 0.05
_EXPORT_SECONDS = 2.5
_SAMPLE_SECONDS = 10.0


class Recorder:
    """Looks on from `start` to its end as an async context manager.

    Args:
        clients: one for each replica of the campaign service.
        stack: whose processes are sampled.
        history: gets all that is seen.
        chance: of whoever is restless.
    """

    def __init__(
        self,
        clients: Sequence[OutreachClient],
        stack: LocalStack,
        history: History,
        chance: random.Random,
    ) -> None:
        self._clients = tuple(clients)
        self._sampler = Sampler(stack)
        self._history = history
        self._chance = chance
        self._watchers: list[CampaignWatcher] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, campaign_ids: Sequence[str]) -> None:
        """Begin to watch, poll and export these campaigns."""
        first, history = self._clients[0], self._history
        for campaign_id in campaign_ids:
            steady = CampaignWatcher("steady", (first,), campaign_id, history)
            comes_and_goes = CampaignWatcher(
                "restless", self._clients, campaign_id, history, restless(self._chance)
            )
            self._watchers += [steady, comes_and_goes]
        for looking in (
            *(watcher.run() for watcher in self._watchers),
            watch_all(first, history),
            poll_gets(self._clients[-1], campaign_ids, history),
            poll_lists(first, history),
            self._export(campaign_ids),
            self._sample(),
        ):
            self._tasks.append(asyncio.create_task(looking))

    async def until_begun(self) -> None:
        """Wait until every watcher has its snapshot."""
        while any(watcher.revision < 0 for watcher in self._watchers):
            self._raise_failures()
            await asyncio.sleep(_LOOK_SECONDS)

    async def until_told(self, revisions: dict[str, int]) -> None:
        """Wait until every watcher was told the revision of its campaign."""
        while any(watcher.revision < revisions[watcher.campaign_id] for watcher in self._watchers):
            self._raise_failures()
            await asyncio.sleep(_LOOK_SECONDS)

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _sample(self) -> None:
        while True:
            self._history.samples += await self._sampler.sample()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _export(self, campaign_ids: Sequence[str]) -> None:
        client = self._clients[0]
        while True:
            await asyncio.sleep(_EXPORT_SECONDS)
            await export_once(client, self._chance.choice(campaign_ids), self._history)
