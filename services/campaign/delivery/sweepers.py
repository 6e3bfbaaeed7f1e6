"""Timers: what nobody reports is found and settled. By the database's clock, in bounded batches, safe in any number of
replicas (the campaign's row is locked, and every statement checks again).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from outreach.background import until_cancelled
from outreach.cancellation import raise_if_cancelled
from outreach.crash_points import reached
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from outreach.jetstream.jobs import Job
from outreach.jetstream.topology import job_subject
from outreach.postgres.outage import STORE_ERRORS
from outreach.vocabulary import Channel, MessageStatus
from services.campaign.delivery.changes import (
    QUERIES,
    LockedCampaign,
    Move,
    Wakeups,
    lock_campaign,
    moves_of,
    record_changes,
)
from services.campaign.delivery.pauses import Pause

log = structlog.get_logger()

BATCH_MESSAGES_MAX = 1_000
CANCEL_BATCH_MESSAGES_MAX = 5_000
#: How often what is to be cancelled is looked for; the replica that stops a campaign looks at once.
CANCEL_SECONDS = 0.25
HOUSEKEEPING_SECONDS = 60.0
#: What is due after hours or days is looked for at least so often: a look may read all messages of a campaign.
EMAIL_PERIOD_SECONDS_MAX = 300.0


@dataclass(frozen=True, slots=True)
class Timers:
    """When something that did not happen is settled, in seconds."""

    #: SMS: in SENT without a receipt → looked up, then ASSUMED_DELIVERED; after twice the time in any case.
    assumed_delivered_after_seconds: float
    #: Unknown for so long → FAILED: UNCONFIRMED.
    unconfirmed_after_seconds: float
    #: Unknown for so long → looked up at the provider (again at growing intervals).
    look_up_after_seconds: float
    #: A claim may be used to start a send for so long.
    send_window_seconds: float
    #: A request to the channel's provider takes at most so long; after window and request a claim without a report is
    #: unknown.
    request_seconds_max: Mapping[Channel, float]
    #: An email in SENT of which nothing is heard for so long → looked up at the provider.
    email_look_up_after_seconds: float
    #: An email in RETRYING for so long → FAILED: TIMED_OUT; in SENT → FAILED: UNCONFIRMED.
    email_timed_out_after_seconds: float
    #: Change log rows of a campaign that ended so long ago go.
    change_log_kept_seconds: float

    def claim_unknown_after_seconds(self, channel: Channel) -> float:
        """From the claim: its sender must have said something by then. Twice, because it may report late."""
        return 2 * (self.send_window_seconds + self.request_seconds_max[channel])


def period(after_seconds: float, seconds_max: float = 15.0) -> float:
    """How often to look for something that is due after so long: 1/20 of it, from 0.25 s to `seconds_max`."""
    return min(max(after_seconds / 20, 0.25), seconds_max)


class Sweepers:
    """The loops; `run` holds them together."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        wakeups: Wakeups,
        nats: NatsConnection,
        timers: Timers,
        *,
        purge: Callable[[Any], Awaitable[object]],
    ) -> None:
        """`purge`: removes what the lifecycle keeps for a limited time (answers by request_id), given a connection."""
        self._pool = pool
        self._wakeups = wakeups
        self._nats = nats
        self._timers = timers
        self._purge = purge
        self._stopped = asyncio.Event()

    def wake(self) -> None:
        """Look at once for what is to be cancelled: a campaign was stopped."""
        self._stopped.set()

    async def run(self) -> None:
        """Until cancelled."""
        timers = self._timers
        claim_unknown_after_seconds = min(map(timers.claim_unknown_after_seconds, Channel))
        email_look_up, email_timed_out = (
            period(timers.email_look_up_after_seconds, EMAIL_PERIOD_SECONDS_MAX),
            period(timers.email_timed_out_after_seconds, EMAIL_PERIOD_SECONDS_MAX),
        )
        async with asyncio.TaskGroup() as tasks:
            for every, sweep in (
                (period(timers.assumed_delivered_after_seconds), self.assume_delivered),
                (period(claim_unknown_after_seconds), self.find_overdue_claims),
                (period(timers.unconfirmed_after_seconds), self.give_up_unknown),
                (period(timers.look_up_after_seconds), self.publish_look_ups),
                (email_look_up, self.find_silent_emails),
                (email_timed_out, self.time_out_emails),
                (HOUSEKEEPING_SECONDS, self.keep_house),
            ):
                tasks.create_task(until_cancelled(sweep.__name__, self._forever(every, sweep)))
            cancelling = self._forever(CANCEL_SECONDS, self.cancel_queued, wake=self._stopped)
            tasks.create_task(until_cancelled("cancel_queued", cancelling))

    async def _forever(
        self,
        every_seconds: float,
        sweep: Callable[[], Awaitable[None]],
        *,
        wake: asyncio.Event | None = None,
    ) -> None:
        """`wake`: look before the time."""
        pause = Pause()
        while True:
            wait_seconds = every_seconds
            try:
                await sweep()
            except (*STORE_ERRORS, *NATS_FAULTS) as error:
                log.warning("sweep_failed", sweep=sweep.__name__, error=type(error).__name__)
                wait_seconds = max(every_seconds, pause.after_failure())
            else:
                pause.reset()
            raise_if_cancelled()  # before the wait, which may be a minute
            if wake is None:
                await asyncio.sleep(wait_seconds)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_seconds):
                        await wake.wait()
                wake.clear()

    async def assume_delivered(self) -> None:
        """SMS in SENT for too long without a receipt: carriers may not report.

        But a receipt may have got lost, so Twilio is asked first. A batch of each campaign at a time, as look-ups share
        Twilio's concurrency with the sends; what has no turn within as long again is assumed delivered without one.
        """
        after = self._timers.assumed_delivered_after_seconds
        campaigns = await self._campaigns("campaigns_with_sent_sms")
        await self._settle_overdue(campaigns, "overdue_receipts", "assume_delivered", after)
        for campaign_id in campaigns:
            noted = await self._note_unknown(
                campaign_id, "silent_messages", after, MessageStatus.SENT
            )
            if noted:
                log.info("receipts_looked_for", campaign_id=str(campaign_id), messages=noted)

    async def find_overdue_claims(self) -> None:
        """SENDING past window and request time without a report: nobody knows; look-ups and events decide."""
        for row in await self._pool.fetch(QUERIES["campaigns_with_sending"]):
            after = self._timers.claim_unknown_after_seconds(Channel(row["channel"]))
            noted = await self._note_unknown(
                row["id"], "overdue_claims", after, MessageStatus.SENDING
            )
            if noted:
                log.warning("claims_overdue", campaign_id=str(row["id"]), messages=noted)

    async def find_silent_emails(self) -> None:
        """Emails in SENT for long, of which no event came: it may have got lost, so they are looked up.

        A batch of each campaign at a time: a provider does not let many be looked up.
        """
        after = self._timers.email_look_up_after_seconds
        for campaign_id in await self._campaigns("campaigns_with_sent_email", after):
            noted = await self._note_unknown(
                campaign_id, "silent_messages", after, MessageStatus.SENT
            )
            if noted:
                log.warning("emails_silent", campaign_id=str(campaign_id), messages=noted)

    async def time_out_emails(self) -> None:
        """Emails deferred, or accepted and never heard of again, for longer than the provider goes on trying."""
        after = self._timers.email_timed_out_after_seconds
        campaigns = await self._campaigns("campaigns_with_unsettled_email", after)
        await self._settle_overdue(campaigns, "overdue_emails", "time_out", after)

    async def give_up_unknown(self) -> None:
        """Unknown past the limit: FAILED with UNCONFIRMED. Never re-sent."""
        after = self._timers.unconfirmed_after_seconds
        rows = await self._pool.fetch(QUERIES["campaigns_with_old_unknown"], after)
        for row in rows:
            await self._change(row["id"], "give_up_unknown", after, BATCH_MESSAGES_MAX)

    async def publish_look_ups(self) -> None:
        """Tell the senders that attempts wait to be looked up."""
        for row in await self._pool.fetch(QUERIES["campaigns_with_due_look_ups"]):
            if not self._nats.is_connected:
                return
            job = Job("look_up", row["organisation_id"], row["id"], row["run"], 0, 0, 0)
            subject = job_subject(Channel(row["channel"]), row["organisation_id"], row["id"])
            await self._nats.jetstream.publish(subject, job.encode(), timeout=5.0)

    async def cancel_queued(self) -> None:
        """What was queued when a run was stopped or failed, batch by batch.

        Each goes on where the one before ended, so that the cancelled ones are not read again and again; what is handed
        back behind it is found by the next look.
        """
        for campaign_id in await self._campaigns("campaigns_to_cancel"):
            after = 0
            while moves := await self._change(
                campaign_id, "cancel_queued", CANCEL_BATCH_MESSAGES_MAX, after
            ):
                after = max(move.number for move in moves)
                reached("cancel-between-batches")

    async def keep_house(self) -> None:
        """Rows that are kept for a limited time."""
        async with self._pool.acquire() as connection:
            await self._purge(connection)
            await connection.execute(QUERIES["purge_ended_instances"])
            kept = self._timers.change_log_kept_seconds
            for row in await connection.fetch(QUERIES["campaigns_with_old_log"], kept):
                await connection.execute(QUERIES["prune_log"], row["id"], row["revision"])

    async def _settle_overdue(
        self, campaigns: list[UUID], overdue: str, change: str, after_seconds: float
    ) -> None:
        """In each of these campaigns change what is overdue, found without a lock, batch by batch."""
        for campaign_id in campaigns:
            while True:
                rows = await self._pool.fetch(
                    QUERIES[overdue], campaign_id, after_seconds, BATCH_MESSAGES_MAX
                )
                numbers = [row["number"] for row in rows]
                if not numbers:
                    break
                if not await self._change(campaign_id, change, numbers, after_seconds):
                    break  # somebody else was first

    async def _note_unknown(
        self, campaign_id: UUID, overdue: str, after_seconds: float, status: MessageStatus
    ) -> int:
        """Have a batch of overdue attempts looked up at once; returns how many there were."""
        rows = await self._pool.fetch(
            QUERIES[overdue], campaign_id, after_seconds, BATCH_MESSAGES_MAX
        )
        if not rows:
            return 0
        async with self._pool.acquire() as connection, connection.transaction():
            if await lock_campaign(connection, campaign_id) is None:
                return 0
            await connection.execute(
                QUERIES["note_unknown_attempts"],
                campaign_id,
                [row["number"] for row in rows],
                [row["attempt"] for row in rows],
                0.0,
                status,
            )
        return len(rows)

    async def _campaigns(self, query: str, *arguments: float) -> list[UUID]:
        return [row["id"] for row in await self._pool.fetch(QUERIES[query], *arguments)]

    async def _change(self, campaign_id: UUID, query: str, *arguments: object) -> list[Move]:
        """One statement that moves messages, in one transaction; returns what moved."""
        async with self._pool.acquire() as connection, connection.transaction():
            campaign = await lock_campaign(connection, campaign_id)
            if campaign is None or not _still_applies(query, campaign):
                return []
            moves: list[Move] = moves_of(
                await connection.fetch(QUERIES[query], campaign_id, *arguments)
            )
            if not moves:
                return []
            revision = await record_changes(connection, campaign, moves)
        reached("sweep-committed")
        await self._wakeups.campaign_changed(campaign.organisation_id, campaign_id, revision)
        log.info(query, campaign_id=str(campaign_id), messages=len(moves))
        return moves


def _still_applies(query: str, campaign: LockedCampaign) -> bool:
    return query != "cancel_queued" or campaign.stopped or campaign.failed
