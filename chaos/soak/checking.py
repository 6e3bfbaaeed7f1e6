"""Checks each campaign of a soak once nothing more can come of it, and lets its records go."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from chaos.checker import Violation, check
from chaos.clients.calls import answered
from chaos.history import Acceptance, History
from chaos.history_file import write_history
from chaos.record.database import read_database
from chaos.soak.allowed import bounds_of
from chaos.soak.campaign import SoakCampaign
from chaos.soak.disturbance import Disturbance
from chaos.soak.ledger import LedgerFollower
from outreach.client.connection import new_request_id
from outreach.local.stack import LocalStack

#: So long after a campaign is final the provider may have something to tell of it, and no longer:
#: that is how its retries are set.
LATE_SECONDS = 25.0
#: What a fault has held up until its end is committed this much later.
HEALED_SECONDS = 10.0
#: Kept so long after its check, so that the tables hold campaigns of all ages.
KEPT_SECONDS = 240.0
#: Of so many campaigns one is left to the retention.
RETENTION_EVERY = 10
_LOOK_SECONDS = 0.5


class CampaignChecks:
    """Takes campaigns as they become final; has their violations, and keeps nothing else of them.

    An async context manager.

    Args:
        local: the stack, asked directly and not through its relays.
        disturbance: knows the faults.
        keep_dir: where histories that broke a promise are kept.
    """

    def __init__(
        self,
        local: LocalStack,
        disturbance: Disturbance,
        keep_dir: Path,
    ) -> None:
        self.checked = 0
        self.messages_checked = 0
        self.violations: list[Violation] = []
        self._local = local
        self._disturbance = disturbance
        self._keep_dir = keep_dir
        self._under_way: dict[str, SoakCampaign] = {}
        self._unanswered_before: dict[str, int] = {}
        self._checked_times: deque[tuple[float, str]] = deque()
        self._sandbox = local.sandbox_client()
        self._client = local.client()
        self.ledger = LedgerFollower(self._sandbox, local.token_key, self._take)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()
        await self._sandbox.close()

    def expect(self, campaign: SoakCampaign) -> None:
        """The campaign is made; what is accepted from now on may be its own."""
        self._under_way[campaign.campaign_id] = campaign
        self._unanswered_before[campaign.campaign_id] = self.ledger.unanswered[campaign.channel]

    async def settled(self, campaign: SoakCampaign) -> History:
        """Wait until a final campaign changes no more and all who look on were told all of it.

        Returns:
            What the database has of it then.
        """
        await self._until_late(time.time())
        while True:
            stored = await self._read(campaign)
            await campaign.until_told(stored.campaigns[0].revision)
            await campaign.export()
            again = await self._read(campaign)
            if again.campaigns[0].revision == stored.campaigns[0].revision:
                return again

    async def check(self, campaign: SoakCampaign, stored: History, begun_time: float) -> None:
        """Check what was recorded of it since it began, and drop that."""
        while not await self.ledger.catch_up():  # noqa: ASYNC110 - a fault's end
            await asyncio.sleep(_LOOK_SECONDS)
        del self._under_way[campaign.campaign_id]
        history = campaign.history
        history.campaigns, history.messages = stored.campaigns, stored.messages
        history.attempts, history.changes = stored.attempts, stored.changes
        before = self._unanswered_before.pop(campaign.campaign_id)
        unanswered = self.ledger.unanswered[campaign.channel] - before
        injected = self._disturbance.since(begun_time)
        history.faults = [one.done for one in injected]
        history.bounds = bounds_of(injected, history, unanswered)
        found = await asyncio.to_thread(check, history)
        self.violations += found
        self.checked += 1
        self.messages_checked += len(stored.messages)
        self._checked_times.append((time.time(), campaign.campaign_id))
        if found:
            path = self._keep_dir / f"{campaign.campaign_id}.json.gz"
            await asyncio.to_thread(write_history, history, path)

    async def delete_old(self) -> None:
        """Delete campaigns some time after their check, until cancelled; a few are left to the retention."""
        number = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            while self._checked_times and time.time() - self._checked_times[0][0] > KEPT_SECONDS:
                _, campaign_id = self._checked_times.popleft()
                number += 1
                if number % RETENTION_EVERY:
                    await self._delete(campaign_id)

    async def _delete(self, campaign_id: str) -> None:
        request_id = new_request_id()
        await answered(lambda: self._client.delete_campaign(campaign_id, request_id=request_id))

    async def _until_late(self, final_time: float) -> None:
        """Wait until nothing can come late any more, and no fault holds it up."""
        while True:
            ended = max(
                (one.done.ended_time for one in self._disturbance.since(final_time)), default=0.0
            )
            quiet_time = max(final_time + LATE_SECONDS, ended + HEALED_SECONDS)
            if time.time() >= quiet_time:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, campaign: SoakCampaign) -> History:
        """What the database holds of it; asked again while a fault keeps it from answering."""
        while True:
            found = History(seed=0, bounds=campaign.history.bounds)
            try:
                await read_database(self._local.postgres.dsn, found, campaign.campaign_id)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                return found

    def _take(self, acceptance: Acceptance) -> None:
        campaign = self._under_way.get(acceptance.campaign_id)
        if campaign is not None:
            campaign.take(acceptance)
            return
        text = f"accepted for no campaign, or after its check: {acceptance.provider_message_id}"
        self.violations.append(Violation("I3", text, acceptance.campaign_id))
