"""What nobody tells of an email, settled by timers: on a real PostgreSQL and a real NATS."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.jetstream.connection import NatsConnection, nats_connection
from outreach.jetstream.jobs import Job
from outreach.jetstream.topology import JOBS_STREAM, ensure_topology
from outreach.postgres.pool import create_pool
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from services.campaign.delivery.changes import QUERIES
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.sweepers import Sweepers, Timers
from tests.campaign_data import (
    Running,
    assert_exact,
    campaign_row,
    hash_of,
    recipient,
    running_campaign,
    statuses,
)
from tests.delivery_rig import Delivery, accepted, report
from tests.waiting import eventually

S = MessageStatus
C = CampaignStatus
EMAIL = Channel.EMAIL
HOUR = 3_600.0

TIMERS = Timers(
    assumed_delivered_after_seconds=600,
    unconfirmed_after_seconds=900,
    look_up_after_seconds=20,
    send_window_seconds=10,
    request_seconds_max={Channel.SMS: 20, Channel.EMAIL: 60},
    email_look_up_after_seconds=HOUR,
    email_timed_out_after_seconds=96 * HOUR,
    change_log_kept_seconds=24 * HOUR,
)


class Timed(Delivery):
    """The parts of the delivery with their timers, and a way to let time pass."""

    def __init__(self, pool: Any, nats: NatsConnection, timers: Timers = TIMERS) -> None:
        super().__init__(pool)
        self.nats = nats
        self.sweepers = self.make_sweepers(timers)
        self.look_ups = LookUps(pool, look_up_after_seconds=20.0, email_look_up_after_seconds=HOUR)

    def make_sweepers(self, timers: Timers) -> Sweepers:
        async def purge(connection: object) -> None:
            assert connection is not None

        return Sweepers(self.pool, self.wakes, self.nats, timers, purge=purge)

    async def sent(self, contacts: int, **more: Any) -> Running:
        """An email campaign whose messages are all SENT."""
        campaign = await running_campaign(self.pool, contacts, channel=EMAIL, **more)
        await self.claim(campaign, contacts)
        await self.report(campaign, *(accepted(n) for n in range(1, contacts + 1)))
        return campaign

    async def after(self, hours: float, numbers: str = "true") -> None:
        """As if the database's clock had gone on; `numbers`: only messages with such numbers."""
        await self.pool.execute(
            f"UPDATE message SET update_time = update_time - $1::interval,"
            f" claim_time = claim_time - $1::interval WHERE {numbers}",
            timedelta(hours=hours),
        )
        for statement in (
            "UPDATE campaign SET start_time = start_time - $1::interval",
            "UPDATE unknown_attempt SET unknown_time = unknown_time - $1::interval",
            "UPDATE unknown_attempt SET next_look_up_time = next_look_up_time - $1::interval",
        ):
            await self.pool.execute(statement, timedelta(hours=hours))

    async def unknown(self) -> list[int]:
        rows = await self.pool.fetch("SELECT number FROM unknown_attempt ORDER BY number")
        return [row["number"] for row in rows]

    async def leased(self, campaign: Running, limit: int = 100) -> list[int]:
        result = await self.look_ups.lease(campaign.campaign_id, limit)
        return [attempt.message.number for attempt in result.attempts]


@pytest.fixture
async def timed(database_dsn: str, nats_url: str) -> AsyncIterator[Timed]:
    pool = await create_pool(database_dsn, application_name="tests", connect_seconds_max=60)
    async with nats_connection(nats_url, name="tests") as nats:
        await nats.connected()
        await ensure_topology(nats.jetstream, (EMAIL,))
        yield Timed(pool, nats)
    await pool.close()


def deferred(*numbers: int) -> list[pb.Report]:
    return [report(number, pb.OUTCOME_DEFERRED) for number in numbers]


async def test_a_deferral_past_its_limit_is_timed_out_and_ends_the_campaign(timed: Timed) -> None:
    campaign = await timed.sent(4)
    await timed.report(campaign, *deferred(1, 2, 3), report(4, pb.OUTCOME_DELIVERED))
    await timed.after(95.9)
    await timed.sweepers.time_out_emails()
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["retrying"]) == (C.ACTIVE_RETRIES, 3)
    # The provider goes on telling of its tries; the limit counts from the first.
    await timed.report(campaign, *deferred(1, 2, 3))
    await timed.report(campaign, report(3, pb.OUTCOME_DELIVERED))
    await timed.after(0.2)
    await timed.sweepers.time_out_emails()
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["failed"], row["delivered"]) == (C.COMPLETE_WITH_ERRORS, 2, 2)
    assert row["end_time"] is not None
    reasons = await timed.pool.fetch("SELECT failure_reason FROM message WHERE status = 8")
    assert {reason["failure_reason"] for reason in reasons} == {FailureReason.TIMED_OUT}
    # It has ended: another look finds nothing, and what is told now opens nothing.
    await timed.sweepers.time_out_emails()
    await timed.report(campaign, *deferred(1, 2))
    assert await campaign_row(timed.pool, campaign.campaign_id) == row
    await assert_exact(timed.pool, campaign.campaign_id)


async def test_the_limit_counts_in_a_campaign_that_still_sends(timed: Timed) -> None:
    campaign = await timed.sent(2)
    await timed.report(campaign, *deferred(1))
    await timed.after(97, "number = 1")
    await timed.sweepers.time_out_emails()
    assert await statuses(timed.pool, campaign.campaign_id) == {1: S.FAILED, 2: S.SENT}
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["end_time"]) == (C.IN_PROGRESS, None)
    await assert_exact(timed.pool, campaign.campaign_id)


async def test_the_limit_counts_in_a_failed_campaign(timed: Timed) -> None:
    campaign = await timed.sent(2)
    await timed.report(campaign, *deferred(1))
    await timed.fail(campaign, FailureReason.ACCOUNT_PROBLEM)
    await timed.report(campaign, report(2, pb.OUTCOME_DELIVERED))
    await timed.after(97)
    await timed.sweepers.time_out_emails()
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["failed"], row["retrying"]) == (C.FAILED, 1, 0)
    assert row["end_time"] is not None


async def test_many_deferrals_are_timed_out_in_batches(timed: Timed) -> None:
    campaign = await running_campaign(timed.pool, 2_300, channel=EMAIL)
    await timed.pool.execute(
        "UPDATE message SET status = 5, attempt = 1, update_time = now() - interval '100 hours'"
    )
    await timed.pool.execute(
        "UPDATE campaign SET queued = 0, retrying = 2300, status = 4, holds_channel = false,"
        " start_time = now() - interval '101 hours'"
    )
    await timed.sweepers.time_out_emails()
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["failed"]) == (C.COMPLETE_WITH_ERRORS, 2_300)
    assert row["revision"] == 4  # 1,000, 1,000 and 300
    assert row["end_time"] is not None


async def test_no_sms_is_timed_out_nor_looked_up_as_an_email_is(timed: Timed) -> None:
    campaign = await running_campaign(timed.pool, 1)
    await timed.claim(campaign, 1)
    await timed.report(campaign, accepted(1))
    await timed.after(100)
    await timed.sweepers.time_out_emails()
    await timed.sweepers.find_silent_emails()
    assert await statuses(timed.pool, campaign.campaign_id) == {1: S.SENT}
    assert await timed.unknown() == []


async def test_an_accepted_email_of_which_nothing_is_heard_is_looked_up(timed: Timed) -> None:
    campaign = await timed.sent(5)
    await timed.report(campaign, *deferred(4))
    await timed.after(0.99)
    await timed.sweepers.find_silent_emails()
    assert await timed.unknown() == []
    await timed.after(0.02)
    await timed.report(campaign, report(5, pb.OUTCOME_DELIVERED))
    for _ in range(2):
        await timed.sweepers.find_silent_emails()
    assert await timed.unknown() == [1, 2, 3]
    await timed.sweepers.publish_look_ups()
    message = await timed.nats.jetstream.get_msg(JOBS_STREAM, 1)
    assert message.data is not None
    job = Job.decode(message.data)
    assert (job.kind, job.campaign_id) == ("look_up", campaign.campaign_id)
    result = await timed.look_ups.lease(campaign.campaign_id, 100)
    assert result.content_hash == "hash-1"
    assert [
        (a.message.number, a.message.attempt, a.message.recipient, a.message.recipient_hash)
        for a in result.attempts
    ] == [(n, 1, recipient(n, EMAIL), hash_of(n, EMAIL)) for n in (1, 2, 3)]
    # What moves on is not looked up any more, however that is known; "not found" says nothing.
    await timed.report(
        campaign,
        report(1, pb.OUTCOME_DELIVERED),
        *deferred(2),
        report(3, pb.OUTCOME_NOT_FOUND),
        accepted(3),
    )
    assert await timed.unknown() == [3]
    await timed.report(campaign, report(3, pb.OUTCOME_FAILED, failure_reason=9))
    assert await timed.unknown() == []
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert row["status"] == C.ACTIVE_RETRIES
    await assert_exact(timed.pool, campaign.campaign_id)


async def test_it_is_looked_up_ever_more_rarely(timed: Timed) -> None:
    campaign = await timed.sent(1)
    await timed.after(1.01)
    await timed.sweepers.find_silent_emails()
    waits = []
    for _ in range(8):
        assert await timed.leased(campaign) == [1]
        assert await timed.leased(campaign) == []
        waits.append(
            await timed.pool.fetchval(
                "SELECT round(extract(epoch FROM next_look_up_time - now()) / 3600)::int"
                " FROM unknown_attempt"
            )
        )
        await timed.after(waits[-1])
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]


async def test_what_stays_silent_is_unconfirmed_and_frees_the_channel(timed: Timed) -> None:
    campaign = await timed.sent(3)
    await timed.report(campaign, report(3, pb.OUTCOME_DELIVERED))
    await timed.after(1.5)
    await timed.sweepers.find_silent_emails()
    assert await timed.unknown() == [1, 2]
    # An unknown attempt would be given up by now; of these it is known that they were accepted.
    await timed.after(94)
    await timed.sweepers.give_up_unknown()
    await timed.sweepers.time_out_emails()
    assert set((await statuses(timed.pool, campaign.campaign_id)).values()) == {S.SENT, S.DELIVERED}
    await timed.after(1)
    await timed.sweepers.time_out_emails()
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["holds_channel"]) == (C.COMPLETE_WITH_ERRORS, False)
    reasons = await timed.pool.fetch("SELECT failure_reason FROM message WHERE status = 8")
    # Not TIMED_OUT, after which a retry makes sense: most likely they arrived.
    assert [reason["failure_reason"] for reason in reasons] == [FailureReason.UNCONFIRMED] * 2
    assert await timed.unknown() == []
    await timed.report(campaign, report(1, pb.OUTCOME_DELIVERED))
    assert (await statuses(timed.pool, campaign.campaign_id))[1] is S.DELIVERED
    await assert_exact(timed.pool, campaign.campaign_id)


async def test_unknown_attempts_are_given_up_whatever_else_waits_to_be_looked_up(
    timed: Timed,
) -> None:
    """A thousand silent emails, each with a lower number, once would have been in their way."""
    campaign = await running_campaign(timed.pool, 1_210, channel=EMAIL)
    await timed.claim(campaign, 1_000)
    await timed.report(campaign, *(accepted(n) for n in range(1, 1_001)))
    await timed.claim(campaign, 205)
    await timed.report(campaign, *(accepted(n) for n in range(1_001, 1_201)))
    await timed.report(campaign, *(report(n, pb.OUTCOME_UNKNOWN) for n in range(1_201, 1_206)))
    await timed.after(1.1)
    for _ in range(2):  # a batch at a time
        await timed.sweepers.find_silent_emails()
    assert await timed.unknown() == list(range(1, 1_206))
    assert (await timed.leased(campaign, 8))[:5] == list(range(1_201, 1_206))
    await timed.sweepers.give_up_unknown()
    reasons = await timed.pool.fetch("SELECT number, failure_reason FROM message WHERE status = 8")
    assert {tuple(row) for row in reasons} == {
        (number, FailureReason.UNCONFIRMED) for number in range(1_201, 1_206)
    }
    assert await timed.unknown() == list(range(1, 1_201))
    await assert_exact(timed.pool, campaign.campaign_id)


async def test_emails_for_one_recipient_are_looked_up_each_for_itself(timed: Timed) -> None:
    """By the attempt's own id: that another one is under way does not matter, as it does for SMS."""
    campaign = await running_campaign(timed.pool, 3, channel=EMAIL)
    await timed.pool.execute(
        "UPDATE contact SET recipient_hash = (SELECT recipient_hash FROM contact WHERE number = 1)"
    )
    await timed.claim(campaign, 3)
    await timed.report(campaign, report(1, pb.OUTCOME_UNKNOWN), report(2, pb.OUTCOME_UNKNOWN))
    await timed.pool.execute("UPDATE unknown_attempt SET next_look_up_time = now()")
    first = await timed.look_ups.lease(campaign.campaign_id, 1)
    assert len(first.attempts) == 1
    assert not first.attempts[0].other_provider_message_ids
    assert first.attempts[0].message.number != (await timed.leased(campaign))[0]


async def test_look_ups_of_a_campaign_that_is_gone_are_none(timed: Timed) -> None:
    assert await timed.leased(Running(uuid4(), uuid4(), 1)) == []


async def test_a_row_left_behind_by_an_earlier_attempt_is_due_ever_more_rarely(
    timed: Timed,
) -> None:
    """It is nobody's any more; a due one would have the senders called every second."""
    campaign = await timed.sent(1)
    await timed.pool.execute(
        "INSERT INTO unknown_attempt (campaign_id, number, attempt, next_look_up_time)"
        " VALUES ($1, 1, 7, now())",
        campaign.campaign_id,
    )
    assert await timed.leased(campaign) == []
    assert not await timed.pool.fetch(QUERIES["campaigns_with_due_look_ups"])


@pytest.mark.parametrize(("channel", "seconds"), [(Channel.SMS, 60), (EMAIL, 140)])
async def test_a_claim_is_overdue_by_the_limit_of_its_channels_sender(
    timed: Timed, channel: Channel, seconds: int
) -> None:
    campaign = await running_campaign(timed.pool, 1, channel=channel)
    await timed.claim(campaign, 1)
    await timed.after((seconds - 2) / 3_600)
    await timed.sweepers.find_overdue_claims()
    assert await timed.unknown() == []
    await timed.after(4 / 3_600)
    await timed.sweepers.find_overdue_claims()
    assert await timed.unknown() == [1]


@pytest.mark.parametrize("query", ["campaigns_with_unsettled_email"])
async def test_timers_do_not_read_campaigns_that_have_ended(timed: Timed, query: str) -> None:
    campaign = await timed.sent(1)
    await timed.pool.execute(
        "INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status,"
        " failed, total, run, start_time, end_time)"
        " SELECT gen_random_uuid(), $1, 2, 'Old', 1, 6, 1, 1, 1, now() - interval '1 year',"
        " now() - interval '1 year' FROM generate_series(1, 20000)",
        campaign.organisation_id,
    )
    await timed.pool.execute("VACUUM ANALYZE campaign")
    plan = await timed.pool.fetchval(
        f"EXPLAIN (FORMAT JSON) {QUERIES[query].replace('$1', '60.0')}"
    )
    assert "campaign_unfinished" in str(plan)
    assert "Seq Scan" not in str(plan)


async def test_no_index_knows_what_every_batch_changes(timed: Timed) -> None:
    """ADR 5, for both rows that a batch rewrites: an index over such a column makes the update write to all indexes."""
    hot = {
        "message": {"status", "failure_reason", "update_time", "claim_time", "attempt", "run"},
        "campaign": {*(s.name.lower() for s in S), "revision", "update_time", "claim_time"},
    }
    for table, columns in hot.items():
        rows = await timed.pool.fetch(
            "SELECT pg_get_indexdef(indexrelid) AS text FROM pg_index WHERE indrelid = $1::regclass",
            table,
        )
        assert rows
        for row in rows:
            _, _, definition = row["text"].partition(" USING ")
            assert not columns & set(re.findall(r"\w+", definition)), row["text"]


async def test_a_batch_of_deferrals_rewrites_the_campaigns_row_in_place(
    database_dsn: str,
) -> None:
    """Though a timer looks for campaigns with deferred emails, no index changes with their number."""
    # One connection, as each tells of its work by itself.
    pool = await create_pool(
        database_dsn, application_name="tests", connections_min=1, connections_max=1
    )
    try:
        delivery = Delivery(pool)
        campaign = await running_campaign(pool, 600, channel=EMAIL)
        await delivery.claim(campaign, 600)
        before = await _updates(pool)
        for first in range(1, 601, 10):
            await delivery.report(campaign, *deferred(*range(first, first + 10)))
        after = await _updates(pool)
    finally:
        await pool.close()
    updates, in_place = (later - earlier for earlier, later in zip(before, after, strict=True))
    # The last one, which frees the channel, is another matter.
    assert (updates, in_place) == (60, 59)


async def _updates(pool: Any) -> tuple[int, int]:
    """Updates of campaign rows so far, and those that left every index alone."""
    await pool.execute("SELECT pg_stat_force_next_flush()")
    row = await pool.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'campaign'"
    )
    return row["n_tup_upd"], row["n_tup_hot_upd"]


async def test_every_timer_runs(timed: Timed) -> None:
    """The loops by themselves, with limits of a moment."""
    soon = dataclasses.replace(
        TIMERS, email_look_up_after_seconds=0.2, email_timed_out_after_seconds=4.0
    )
    campaign = await timed.sent(2)
    await timed.report(campaign, *deferred(1))
    running = asyncio.create_task(timed.make_sweepers(soon).run())
    try:
        assert await eventually(timed.unknown) == [2]

        async def ended() -> bool:
            row = await campaign_row(timed.pool, campaign.campaign_id)
            return row["end_time"] is not None

        await eventually(ended)
    finally:
        running.cancel()
    row = await campaign_row(timed.pool, campaign.campaign_id)
    assert (row["status"], row["failed"]) == (C.COMPLETE_WITH_ERRORS, 2)
