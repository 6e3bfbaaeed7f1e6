"""Retention: campaigns older than a setting are deleted, or lose their contacts' data. Off unless it is set.

Never touches a campaign that runs or has deferred emails, nor one that was run again meanwhile: every
step looks at the age again under the lock on the campaign's row. Safe in any number of replicas, and
after a kill it begins anew: what was removed stays removed.
"""

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from outreach.cancellation import raise_if_cancelled
from outreach.postgres.outage import STORE_ERRORS
from services.campaign.deletions import Deletions
from services.campaign.delivery.changes import Wakeups, lock_campaign
from services.campaign.store import Pool
from services.campaign.store import deletions as store
from services.campaign.store.contacts import delete_upload, lock_contacts
from services.campaign.store.erasures import erase_messages, strip_contacts
from services.campaign.store.test_sends import delete_test_sends_of

log = structlog.get_logger()

#: Days are what is set: an hour matters to nobody.
PERIOD_SECONDS: Final = 3_600.0
CAMPAIGNS_TOGETHER: Final = 100
#: Between two batches of contacts: what runs comes first.
REST_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class RetentionTerms:
    """In days since a campaign's end, or since its last edit when it was never run; None: never."""

    delete_after_days: float | None
    strip_after_days: float | None


class Retention:
    """The loop; `run` it once a process."""

    def __init__(
        self, pool: Pool, wakeups: Wakeups, deletions: Deletions, terms: RetentionTerms
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._deletions = deletions
        self._terms = terms

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.sweep()
            except STORE_ERRORS as error:
                log.warning("sweep_failed", sweep="retention", error=type(error).__name__)
            raise_if_cancelled()
            await asyncio.sleep(PERIOD_SECONDS)

    async def sweep(self) -> None:
        """Everything that is due now."""
        terms = self._terms
        if terms.delete_after_days is not None:
            await self._delete_old(terms.delete_after_days)
        if terms.strip_after_days is not None:
            await self._strip_old(terms.strip_after_days)

    async def _delete_old(self, days: float) -> None:
        while True:
            async with self._pool.acquire() as connection:
                found = await store.expired_campaigns(connection, days, CAMPAIGNS_TOGETHER)
            deleted = 0
            for campaign_id, organisation_id in found:
                deleted += await self._delete(campaign_id, organisation_id, days)
            if deleted:
                self._deletions.wake()
            if not deleted or len(found) < CAMPAIGNS_TOGETHER:
                return

    async def _delete(self, campaign_id: UUID, organisation_id: UUID, days: float) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.lock_expired(connection, campaign_id, days):
                return False
            await store.delete_campaign(connection, campaign_id)
        await self._wakeups.campaign_changed(organisation_id, campaign_id, 0)
        log.info("campaign_deleted_with_age", campaign_id=str(campaign_id))
        return True

    async def _strip_old(self, days: float) -> None:
        while True:
            async with self._pool.acquire() as connection:
                found = await store.campaigns_to_strip(connection, days, CAMPAIGNS_TOGETHER)
            stripped = 0
            for campaign_id in found:
                stripped += await self._strip(campaign_id, days)
            if not stripped or len(found) < CAMPAIGNS_TOGETHER:
                return

    async def _strip(self, campaign_id: UUID, days: float) -> bool:
        """False: somebody is at it, or it is not as old any more."""
        contacts, after = 0, 0
        while True:
            numbers = await self._strip_batch(campaign_id, days, after)
            if numbers is None:
                return False
            if not numbers:
                break
            contacts, after = contacts + len(numbers), max(numbers)
            await asyncio.sleep(REST_SECONDS)
        log.info("campaign_stripped", campaign_id=str(campaign_id), contacts=contacts)
        return True

    async def _strip_batch(self, campaign_id: UUID, days: float, after: int) -> list[int] | None:
        """The numbers; empty: all is done, and noted; None: not to be done (now)."""
        async with self._pool.acquire() as connection, connection.transaction():
            # An import would bring contacts in; whoever retries would have them sent to.
            if not await lock_contacts(connection, campaign_id):
                return None
            if not await store.lock_to_strip(connection, campaign_id, days):
                return None
            campaign = await lock_campaign(connection, campaign_id)
            assert campaign is not None  # it is locked
            numbers = await strip_contacts(connection, campaign_id, after)
            if numbers:
                erased = await erase_messages(connection, campaign, numbers)
            else:
                erased = None
                await delete_upload(connection, campaign_id)
                await delete_test_sends_of(connection, campaign_id)
                await store.set_stripped(connection, campaign_id)
        if erased is not None:
            await self._wakeups.campaign_changed(
                campaign.organisation_id, campaign_id, erased.revision
            )
        return numbers
