"""Publishes jobs a window ahead of the sending, and again when nobody takes them.

A job is a pointer: losing one costs a pause of `redispatch_after_seconds`, doubling one costs a claim that finds
nothing. What has been dispatched is on the campaign's row, so any replica goes on where another one stopped.
"""

import asyncio
import time
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import structlog

from outreach.cancellation import raise_if_cancelled
from outreach.crash_points import reached
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from outreach.jetstream.jobs import Job
from outreach.jetstream.topology import JOBS_STREAM, job_subject
from outreach.postgres.outage import STORE_ERRORS
from services.campaign.delivery.changes import QUERIES, LockedCampaign, lock_campaign
from services.campaign.delivery.pauses import Pause
from services.campaign.domain.dispatch import (
    Pace,
    job_ranges,
    messages_to_dispatch,
    unused_seconds,
)

log = structlog.get_logger()

TICK_SECONDS = 0.1
#: With nothing running.
IDLE_TICK_SECONDS = 0.25
PUBLISH_SECONDS_MAX = 5.0
#: The rate is taken over about this long.
RATE_SECONDS = 1.0


@dataclass(slots=True)
class _Rate:
    """Claims a second, from how the number of messages not queued any more grows."""

    since: float = field(default_factory=time.monotonic)
    claimed: int = -1
    per_second: float = 0.0

    def note(self, claimed: int) -> float:
        now = time.monotonic()
        if self.claimed < 0 or claimed < self.claimed:
            self.since, self.claimed = now, claimed
        elif now - self.since >= RATE_SECONDS:
            latest = (claimed - self.claimed) / (now - self.since)
            # Rises at once, falls slowly: an idle second must not close the window.
            self.per_second = max(latest, self.per_second * 0.8)
            self.since, self.claimed = now, claimed
        return self.per_second


class Dispatcher:
    """Runs in every replica; two of them at work on one campaign queue up on its row and see each other's progress."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        nats: NatsConnection,
        *,
        redispatch_after_seconds: float,
    ) -> None:
        self._pool = pool
        self._nats = nats
        self._redispatch_after_seconds = redispatch_after_seconds
        self._rates: dict[UUID, _Rate] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once: a campaign was run."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause = Pause()
        while True:
            raise_if_cancelled()
            wait_seconds = IDLE_TICK_SECONDS
            if self._nats.is_connected:  # without it a job could only get lost
                try:
                    if await self._tick():
                        wait_seconds = TICK_SECONDS
                    pause.reset()
                except STORE_ERRORS as error:
                    log.warning("dispatch_waits_for_store", error=type(error).__name__)
                    wait_seconds = pause.after_failure()
                except NATS_FAULTS as error:
                    log.warning("dispatch_waits_for_nats", error=type(error).__name__)
                    wait_seconds = pause.after_failure()
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _tick(self) -> bool:
        rows = await self._pool.fetch(QUERIES["campaigns_in_progress"])
        running = {row["id"] for row in rows}
        self._rates = {key: rate for key, rate in self._rates.items() if key in running}
        for campaign_id in running:
            await self._dispatch(campaign_id)
        return bool(running)

    async def _dispatch(self, campaign_id: UUID) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            campaign = await lock_campaign(connection, campaign_id)
            if campaign is None or not campaign.sending_allowed or not campaign.counts.queued:
                return
            epoch, through, undispatched = (
                campaign.dispatch_epoch,
                campaign.dispatched_through,
                campaign.undispatched,
            )
            again = epoch > 0 and self._lost(campaign)
            if epoch == 0 or again:
                epoch, through, undispatched = epoch + 1, 0, campaign.counts.queued
            pace = Pace(
                await connection.fetchval(
                    QUERIES["get_pace"], campaign.organisation_id, campaign.channel
                ),
                campaign.segments_mean,
            )
            rate = self._rates.setdefault(campaign_id, _Rate())
            limit = messages_to_dispatch(
                campaign.channel,
                outstanding=max(campaign.counts.queued - undispatched, 0),
                remaining=undispatched,
                claimed_per_second=rate.note(campaign.counts.total - campaign.counts.queued),
                since_dispatch_seconds=campaign.since_dispatch_seconds,
                pace=pace,
            )
            if limit <= 0:
                return
            ahead = await connection.fetchrow(
                QUERIES["next_to_dispatch"], campaign_id, through, limit
            )
            if ahead is None or not ahead["messages"]:
                # Counted as ahead of us, but behind: handed back. The next epoch takes them along.
                await connection.execute(
                    QUERIES["record_dispatch"], campaign_id, epoch, through, 0, 0.0
                )
                return
            await connection.execute(
                QUERIES["record_dispatch"],
                campaign_id,
                epoch,
                ahead["last"],
                max(undispatched - ahead["messages"], 0),
                unused_seconds(ahead["messages"], campaign.since_dispatch_seconds, pace),
            )
            reached("dispatch-before-commit")
        reached("dispatch-committed")
        if again:
            await self._purge(campaign)
        await self._publish(campaign, epoch, through + 1, ahead["last"], ahead["messages"])

    def _lost(self, campaign: LockedCampaign) -> bool:
        """Jobs are out, nobody has claimed anything for a while: they got lost, or their messages were handed back."""
        outstanding = campaign.counts.queued > campaign.undispatched
        quiet = self._redispatch_after_seconds
        return (
            outstanding
            and (campaign.since_dispatch_seconds is None or campaign.since_dispatch_seconds > quiet)
            and (campaign.since_claim_seconds is None or campaign.since_claim_seconds > quiet)
        )

    async def _purge(self, campaign: LockedCampaign) -> None:
        """Take the old epoch's jobs away, so that an absent sender does not find a heap of them."""
        subject = job_subject(campaign.channel, campaign.organisation_id, campaign.id)
        try:
            await self._nats.jetstream.purge_stream(JOBS_STREAM, subject=subject)
        except NATS_FAULTS as error:
            log.warning(
                "old_jobs_not_purged", error=type(error).__name__, campaign_id=str(campaign.id)
            )

    async def _publish(
        self, campaign: LockedCampaign, epoch: int, first: int, last: int, messages: int
    ) -> None:
        subject = job_subject(campaign.channel, campaign.organisation_id, campaign.id)
        ranges = job_ranges(campaign.channel, first, last, messages)
        for start, end in ranges:
            job = Job(
                "send", campaign.organisation_id, campaign.id, campaign.run, start, end, epoch
            )
            try:
                await self._nats.jetstream.publish(
                    subject,
                    job.encode(),
                    timeout=PUBLISH_SECONDS_MAX,
                    headers={"Nats-Msg-Id": job.message_id},
                )
            except NATS_FAULTS as error:
                # Recorded as dispatched but not out: the next epoch repeats it.
                log.warning("job_not_published", error=type(error).__name__, **_ids(campaign))
                return
            reached("job-published")
        log.info("dispatched", jobs=len(ranges), messages=messages, epoch=epoch, **_ids(campaign))


def _ids(campaign: LockedCampaign) -> dict[str, str | int]:
    return {"campaign_id": str(campaign.id), "run": campaign.run}
