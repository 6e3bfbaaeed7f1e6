"""Watchers: whoever looks on while campaigns run, and writes down each response."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing

from chaos.history import History
from chaos.wire import campaign_seen, watched
from outreach.client import CallError, OutreachClient

_PAUSE_SECONDS = 0.2


class CampaignWatcher:
    """Watches one campaign for ever; over all its connections it is one sequence.

    Args:
        name: of this watcher, in the history.
        clients: of the replicas that it goes to, one after the other.
        leaves_after: gives how many responses it reads before it leaves and comes back with its
            last token; None: it stays, and only faults cut it.
    """

    def __init__(
        self,
        name: str,
        clients: tuple[OutreachClient, ...],
        campaign_id: str,
        history: History,
        leaves_after: Callable[[], int] | None = None,
    ) -> None:
        self.name = name
        self.campaign_id = campaign_id
        self.revision = -1
        self._clients = clients
        self._history = history
        self._leaves_after = leaves_after
        self._resume_token = ""
        self._reconnects = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        connection = 0
        while True:
            client = self._clients[connection % len(self._clients)]
            try:
                await self._watch(client)
            except CallError:
                # The client library goes on by itself while it can: this one is for another replica.
                await asyncio.sleep(_PAUSE_SECONDS)
            connection += 1
            self._reconnects += 1

    async def _watch(self, client: OutreachClient) -> None:
        left = self._leaves_after() if self._leaves_after is not None else None
        watch = client.watch_campaign(
            self.campaign_id,
            resume_token=self._resume_token,
            include_messages=True,
            on_reconnect=self._count,
        )
        async with aclosing(watch):
            async for response in watch:
                self._history.watched.append(
                    watched(response, self.name, self.campaign_id, self._reconnects)
                )
                self.revision = response.revision
                self._resume_token = response.resume_token
                if left is not None and (left := left - 1) <= 0:
                    return

    def _count(self, _: CallError) -> None:
        self._reconnects += 1


def restless(chance: random.Random) -> Callable[[], int]:
    """How many responses a restless watcher reads before it leaves."""
    return lambda: chance.randint(1, 4)


async def watch_all(client: OutreachClient, history: History) -> None:
    """Watch all campaigns until cancelled."""
    while True:
        try:
            watch = client.watch_campaigns()
            async with aclosing(watch):
                async for response in watch:
                    event = response.WhichOneof("event")
                    if event == "snapshot":
                        told = [*response.snapshot.campaigns]
                    else:
                        told = [response.campaign] if event == "campaign" else []
                    history.seen += [campaign_seen(campaign, "watch_all") for campaign in told]
        except CallError:
            await asyncio.sleep(_PAUSE_SECONDS)
