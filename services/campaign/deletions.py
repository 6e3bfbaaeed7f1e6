"""What is left of deleted campaigns goes here, in the background: in small transactions with pauses
between them, so that campaigns that run go on as fast as before.

Safe in any number of replicas (whoever is at a campaign's rows holds its entry), and after a kill
it goes on where it was: an entry stays until nothing is left.
"""

import asyncio
import time
from typing import Final
from uuid import UUID

import structlog

from outreach.cancellation import raise_if_cancelled
from outreach.crash_points import reached
from outreach.postgres.outage import STORE_ERRORS
from services.campaign.delivery.pauses import Pause
from services.campaign.store import Pool
from services.campaign.store import deletions as store
from services.campaign.store.deletions import LEFT, LeftRows

log = structlog.get_logger()

#: How often to look for what another replica, or a process before this one, left.
POLL_SECONDS: Final = 5.0
#: After each batch it rests for so many times what that took: a quarter of one connection's work.
REST_TIMES: Final = 3.0
REST_SECONDS_MIN: Final = 0.005
REST_SECONDS_MAX: Final = 5.0
CAMPAIGNS_TOGETHER: Final = 20


class Deletions:
    """The loop; `run` it once a process."""

    def __init__(self, pool: Pool, *, rest_times: float = REST_TIMES) -> None:
        self._pool = pool
        self._rest_times = rest_times
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """A campaign was deleted: look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause = Pause()
        while True:
            raise_if_cancelled()
            self._wake.clear()
            wait_seconds = POLL_SECONDS
            try:
                if await self.sweep():
                    wait_seconds = 0.0
                pause.reset()
            except STORE_ERRORS as error:
                log.warning("sweep_failed", sweep="deletions", error=type(error).__name__)
                wait_seconds = max(wait_seconds, pause.after_failure())
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def sweep(self) -> int:
        """Delete what is left of the earliest deleted campaigns; gives of how many nothing is left now."""
        async with self._pool.acquire() as connection:
            campaigns = await store.deleted_campaigns(connection, CAMPAIGNS_TOGETHER)
        cleared = 0
        for campaign_id in campaigns:
            cleared += await self._clear(campaign_id)
        return cleared

    async def _clear(self, campaign_id: UUID) -> bool:
        """Whether nothing is left; False: somebody else is at it."""
        for rows in LEFT:
            after: int | None = 0
            while after is not None:
                began = time.perf_counter()
                locked, after = await self._delete_batch(campaign_id, rows, after)
                if not locked:
                    return False
                if after is not None:
                    reached("deletion-between-batches")
                    await self._rest(time.perf_counter() - began)
        return await self._forget(campaign_id)

    async def _delete_batch(
        self, campaign_id: UUID, rows: LeftRows, after: int
    ) -> tuple[bool, int | None]:
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.lock_deleted(connection, campaign_id):
                return False, None
            return True, await store.delete_left(connection, campaign_id, rows, after)

    async def _forget(self, campaign_id: UUID) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.lock_deleted(connection, campaign_id):
                return False
            await store.forget_deleted(connection, campaign_id)
        log.info("campaign_rows_deleted", campaign_id=str(campaign_id))
        return True

    async def _rest(self, took_seconds: float) -> None:
        """Longer when the database is busy: then a batch takes longer, too."""
        rest = max(self._rest_times * took_seconds, REST_SECONDS_MIN)
        await asyncio.sleep(min(rest, REST_SECONDS_MAX))
