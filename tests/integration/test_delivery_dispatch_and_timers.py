"""The dispatcher and the timers against a real PostgreSQL and a real NATS."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import nats.js.errors
import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.jetstream.connection import NatsConnection, nats_connection
from outreach.jetstream.jobs import Job
from outreach.jetstream.topology import INBOX_STREAM, JOBS_STREAM, ensure_topology
from outreach.postgres.pool import create_pool
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.dispatcher import Dispatcher
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.pauses import Pause
from services.campaign.delivery.sweepers import (
    EMAIL_PERIOD_SECONDS_MAX,
    Sweepers,
    Timers,
    period,
)
from tests.campaign_data import (
    Running,
    Wakes,
    assert_exact,
    campaign_row,
    running_campaign,
    statuses,
)
from tests.delivery_rig import Delivery, accepted, report
from tests.waiting import eventually

S = MessageStatus

TIMERS = Timers(
    assumed_delivered_after_seconds=600,
    unconfirmed_after_seconds=900,
    look_up_after_seconds=20,
    send_window_seconds=10,
    request_seconds_max={Channel.SMS: 20, Channel.EMAIL: 50},
    email_look_up_after_seconds=3_600,
    email_timed_out_after_seconds=96 * 3_600,
    change_log_kept_seconds=3600,
)


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Any]:
    pool = await create_pool(database_dsn, application_name="tests", connect_seconds_max=60)
    yield pool
    await pool.close()


@pytest.fixture
async def nats_client(nats_url: str) -> AsyncIterator[NatsConnection]:
    async with nats_connection(nats_url, name="tests") as connection:
        await connection.connected()
        await ensure_topology(connection.jetstream, (Channel.SMS,))
        yield connection


async def jobs_in_stream(client: NatsConnection) -> list[Job]:
    """All jobs that wait, in order of publication."""
    jetstream = client.jetstream
    info = await jetstream.stream_info(JOBS_STREAM)
    jobs = []
    for sequence in range(max(info.state.first_seq, 1), info.state.last_seq + 1):
        try:
            message = await jetstream.get_msg(JOBS_STREAM, sequence)
        except nats.js.errors.NotFoundError:
            continue
        assert message.data is not None
        jobs.append(Job.decode(message.data))
    return jobs


async def test_jobs_cover_the_campaign_once_and_stay_within_the_window(
    pool: Any, nats_client: NatsConnection
) -> None:
    campaign = await running_campaign(pool, 2_500)
    dispatcher = Dispatcher(pool, nats_client, redispatch_after_seconds=60)
    claims = Claims(pool, Wakes())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())

        async def dispatched() -> int:
            return sum(job.last - job.first + 1 for job in await jobs_in_stream(nats_client))

        async def window_full() -> bool:
            return await dispatched() >= 1_000

        await eventually(window_full, what="the first jobs")
        assert await dispatched() == 1_000  # the smallest window
        sender = uuid4()
        claimed = 0
        while claimed < 2_500:
            result = await claims.claim(sender, campaign.campaign_id, 1, 1, 2_500, 100)
            claimed += len(result.messages)

        async def all_out() -> bool:
            row = await campaign_row(pool, campaign.campaign_id)
            return bool(row["queued"] == 0)

        await eventually(all_out)
        running.cancel()
    jobs = await jobs_in_stream(nats_client)
    numbers = [number for job in jobs for number in range(job.first, job.last + 1)]
    assert len(numbers) == len(set(numbers))
    assert {job.epoch for job in jobs} == {1}
    assert {job.campaign_id for job in jobs} == {campaign.campaign_id}


async def test_jobs_that_got_lost_are_published_again_under_a_new_epoch(
    pool: Any, nats_client: NatsConnection
) -> None:
    campaign = await running_campaign(pool, 700)
    jetstream = nats_client.jetstream
    dispatcher = Dispatcher(pool, nats_client, redispatch_after_seconds=0.2)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())
        await eventually(lambda: jobs_in_stream(nats_client), what="jobs")
        # The whole store is wiped.
        await jetstream.delete_stream(JOBS_STREAM)
        await jetstream.delete_stream(INBOX_STREAM)
        await ensure_topology(jetstream, (Channel.SMS,))

        async def again() -> bool:
            """Whatever number of epochs there has been by now."""
            jobs = [job for job in await jobs_in_stream(nats_client) if job.epoch > 1]
            numbers = {number for job in jobs for number in range(job.first, job.last + 1)}
            return numbers == set(range(1, 701))

        await eventually(again, what="all jobs again")
        running.cancel()
    assert set((await statuses(pool, campaign.campaign_id)).values()) == {S.QUEUED}


async def test_a_stopped_campaign_is_not_dispatched_and_what_is_queued_is_cancelled(
    pool: Any, nats_client: NatsConnection
) -> None:
    campaign = await running_campaign(pool, 6_000)
    claims = Claims(pool, Wakes())
    await claims.claim(uuid4(), campaign.campaign_id, 1, 1, 10, 10)
    await pool.execute("UPDATE campaign SET stop_time = now()")
    sweepers = make_sweepers(pool, nats_client)
    await sweepers.cancel_queued()
    row = await campaign_row(pool, campaign.campaign_id)
    assert (row["cancelled"], row["sending"], row["queued"]) == (5_990, 10, 0)
    assert row["status"] == CampaignStatus.IN_PROGRESS  # until what was handed over is final
    await assert_exact(pool, campaign.campaign_id)


def make_sweepers(pool: Any, client: NatsConnection, timers: Timers = TIMERS) -> Sweepers:
    async def purge(connection: object) -> None:
        assert connection is not None

    return Sweepers(pool, Wakes(), client, timers, purge=purge)


async def test_sent_without_a_receipt_is_assumed_delivered_after_the_limit_only(
    pool: Any, nats_client: NatsConnection
) -> None:
    campaign = await running_campaign(pool, 2_300)
    await pool.execute("UPDATE message SET status = 4, attempt = 1, update_time = now()")
    await pool.execute(
        "UPDATE message SET update_time = now() - interval '599 seconds' WHERE number > 2200"
    )
    await pool.execute(
        "UPDATE message SET update_time = now() - interval '601 seconds' WHERE number <= 2200"
    )
    await pool.execute("UPDATE campaign SET queued = 0, sent = 2300")
    await make_sweepers(pool, nats_client).assume_delivered()
    row = await campaign_row(pool, campaign.campaign_id)
    assert (row["assumed_delivered"], row["sent"]) == (2_200, 100)


class Silent:
    """A campaign of three SMS that were accepted, and of which no receipt came."""

    def __init__(self, pool: Any, nats_client: NatsConnection) -> None:
        self.pool = pool
        self.delivery = Delivery(pool)
        self.look_ups = LookUps(pool, look_up_after_seconds=20.0)
        self.sweepers = make_sweepers(pool, nats_client)
        self.campaign: Running

    async def sent(self) -> None:
        self.campaign = await running_campaign(self.pool, 3)
        await self.delivery.claim(self.campaign, 3)
        await self.delivery.report(self.campaign, *(accepted(number) for number in (1, 2, 3)))

    async def after(self, seconds: float) -> None:
        """As if the database's clock had gone on."""
        passed = timedelta(seconds=seconds)
        await self.pool.execute(
            "UPDATE message SET update_time = update_time - $1::interval", passed
        )
        await self.pool.execute(
            "UPDATE unknown_attempt SET next_look_up_time = next_look_up_time - $1::interval",
            passed,
        )
        await self.sweepers.assume_delivered()

    async def leased(self) -> dict[int, str]:
        result = await self.look_ups.lease(self.campaign.campaign_id, 100)
        return {found.message.number: found.provider_message_id for found in result.attempts}

    async def statuses(self) -> list[MessageStatus]:
        return [*(await statuses(self.pool, self.campaign.campaign_id)).values()]


@pytest.fixture
async def silent(pool: Any, nats_client: NatsConnection) -> Silent:
    silent = Silent(pool, nats_client)
    await silent.sent()
    return silent


async def test_a_receipt_that_got_lost_is_looked_up_before_anything_is_assumed(
    silent: Silent, nats_client: NatsConnection
) -> None:
    await silent.after(599)
    assert await silent.leased() == {}
    await silent.after(2)
    assert await silent.statuses() == [S.SENT] * 3
    await silent.sweepers.publish_look_ups()
    (job,) = await jobs_in_stream(nats_client)
    assert (job.kind, job.campaign_id) == ("look_up", silent.campaign.campaign_id)
    assert await silent.leased() == {1: "SM1", 2: "SM2", 3: "SM3"}
    await silent.delivery.report(
        silent.campaign,
        report(1, pb.OUTCOME_DELIVERED),
        report(2, pb.OUTCOME_FAILED, failure_reason=2),
        report(3, pb.OUTCOME_NOT_FOUND),
    )
    await silent.after(0)
    assert await silent.statuses() == [S.DELIVERED, S.FAILED, S.ASSUMED_DELIVERED]
    assert await silent.pool.fetchval("SELECT count(*) FROM unknown_attempt") == 0
    await assert_exact(silent.pool, silent.campaign.campaign_id)


async def test_what_was_answered_for_is_looked_up_once(silent: Silent) -> None:
    await silent.after(601)
    assert len(await silent.leased()) == 3
    await silent.delivery.report(silent.campaign, report(3, pb.OUTCOME_NOT_FOUND))
    await silent.pool.execute(
        "UPDATE unknown_attempt SET next_look_up_time = now() WHERE next_look_up_time < 'infinity'"
    )
    assert set(await silent.leased()) == {1, 2}


async def test_when_nobody_can_look_it_up_it_is_assumed_delivered_all_the_same(
    silent: Silent,
) -> None:
    await silent.after(601)
    for seconds in (20, 20, 40, 80, 400, 30):  # asked for again and again; nobody answers
        assert len(await silent.leased()) == 3
        await silent.after(seconds)
    assert await silent.statuses() == [S.SENT] * 3
    await silent.after(10)
    assert await silent.statuses() == [S.ASSUMED_DELIVERED] * 3


async def test_attempts_in_doubt_are_looked_up_before_silent_ones(silent: Silent) -> None:
    """Each in its own way, also when they are for one recipient."""
    await silent.pool.execute(
        "UPDATE contact SET recipient_hash = (SELECT recipient_hash FROM contact WHERE number = 1)"
    )
    await silent.pool.execute("UPDATE message SET status = 3 WHERE number = 3")
    await silent.pool.execute("UPDATE campaign SET sent = 2, sending = 1")
    await silent.after(601)
    await silent.delivery.report(silent.campaign, report(3, pb.OUTCOME_UNKNOWN))
    campaign_id = silent.campaign.campaign_id
    first = await silent.look_ups.lease(campaign_id, 1)
    assert [found.message.number for found in first.attempts] == [3]
    assert list(first.attempts[0].other_provider_message_ids) == ["SM1", "SM2"]
    assert await silent.leased() == {1: "SM1", 2: "SM2"}


async def test_a_claim_nobody_reports_becomes_unknown_is_looked_up_and_given_up(
    pool: Any, nats_client: NatsConnection
) -> None:
    campaign = await running_campaign(pool, 3)
    claims = Claims(pool, Wakes())
    await claims.claim(uuid4(), campaign.campaign_id, 1, 1, 3, 3)
    sweepers = make_sweepers(pool, nats_client)
    await sweepers.find_overdue_claims()
    assert await pool.fetchval("SELECT count(*) FROM unknown_attempt") == 0
    await pool.execute("UPDATE message SET claim_time = now() - interval '61 seconds'")
    await sweepers.find_overdue_claims()
    assert await pool.fetchval("SELECT count(*) FROM unknown_attempt") == 3
    await sweepers.publish_look_ups()
    (job,) = await jobs_in_stream(nats_client)
    assert (job.kind, job.campaign_id) == ("look_up", campaign.campaign_id)

    await sweepers.give_up_unknown()
    assert set((await statuses(pool, campaign.campaign_id)).values()) == {S.SENDING}
    await pool.execute("UPDATE unknown_attempt SET unknown_time = now() - interval '901 seconds'")
    await sweepers.give_up_unknown()
    row = await campaign_row(pool, campaign.campaign_id)
    assert row["failed"] == 3
    assert row["status"] == CampaignStatus.COMPLETE_WITH_ERRORS
    reasons = await pool.fetch("SELECT DISTINCT failure_reason FROM message")
    assert [reason["failure_reason"] for reason in reasons] == [FailureReason.UNCONFIRMED]
    assert await pool.fetchval("SELECT count(*) FROM unknown_attempt") == 0
    await assert_exact(pool, campaign.campaign_id)


async def test_a_pace_is_kept(pool: Any, nats_client: NatsConnection) -> None:
    campaign = await running_campaign(pool, 1_000)
    await pool.execute(
        """
        INSERT INTO provider_account (organisation_id, channel, settings, secret,
            segments_per_second_max) VALUES ($1, 1, '{}', '', 20)
        """,
        campaign.organisation_id,
    )
    await pool.execute("UPDATE campaign SET segments_mean = 2")
    dispatcher = Dispatcher(pool, nats_client, redispatch_after_seconds=60)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())

        async def window_full() -> bool:
            row = await campaign_row(pool, campaign.campaign_id)
            return bool(row["dispatched_through"] >= 20)

        await eventually(window_full)
        running.cancel()
    row = await campaign_row(pool, campaign.campaign_id)
    assert row["dispatched_through"] == 20  # two seconds of ten messages, and nobody claims


async def test_a_job_of_an_email_campaign_is_a_request(
    pool: Any, nats_client: NatsConnection
) -> None:
    await ensure_topology(nats_client.jetstream, (Channel.EMAIL,))
    campaign = await running_campaign(pool, 2_300, channel=Channel.EMAIL)
    dispatcher = Dispatcher(pool, nats_client, redispatch_after_seconds=60)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())

        async def all_out() -> list[Job] | None:
            jobs = await jobs_in_stream(nats_client)
            return jobs if jobs and jobs[-1].last == 2_300 else None

        jobs = await eventually(all_out)
        running.cancel()
    assert jobs is not None
    assert [(job.first, job.last) for job in jobs] == [(1, 767), (768, 1_534), (1_535, 2_300)]
    assert {job.campaign_id for job in jobs} == {campaign.campaign_id}


async def test_the_pace_of_emails_is_kept_in_whole_jobs(
    pool: Any, nats_client: NatsConnection
) -> None:
    await ensure_topology(nats_client.jetstream, (Channel.EMAIL,))
    campaign = await running_campaign(pool, 1_000, channel=Channel.EMAIL)
    await pool.execute(
        """
        INSERT INTO provider_account (organisation_id, channel, settings, secret,
            segments_per_second_max) VALUES ($1, 2, '{}', '', 100)
        """,
        campaign.organisation_id,
    )
    dispatcher = Dispatcher(pool, nats_client, redispatch_after_seconds=60)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())

        async def window_full() -> bool:
            row = await campaign_row(pool, campaign.campaign_id)
            return bool(row["dispatched_through"] >= 200)

        await eventually(window_full)
        running.cancel()
    jobs = await jobs_in_stream(nats_client)
    # A second's worth at once, then half a second's; two seconds ahead, and nobody claims.
    assert [(job.first, job.last) for job in jobs] == [(1, 100), (101, 150), (151, 200)]


async def test_the_log_of_an_old_campaign_is_pruned(pool: Any, nats_client: NatsConnection) -> None:
    campaign = await running_campaign(pool, 1)
    await Claims(pool, Wakes()).claim(uuid4(), campaign.campaign_id, 1, 1, 1, 1)
    sweepers = make_sweepers(pool, nats_client)
    await sweepers.keep_house()
    assert await pool.fetchval("SELECT count(*) FROM change_log") == 1
    await pool.execute(
        "UPDATE campaign SET status = 5, holds_channel = false, "
        "end_time = now() - interval '2 hours'"
    )
    await sweepers.keep_house()
    assert await pool.fetchval("SELECT count(*) FROM change_log") == 0
    row = await campaign_row(pool, campaign.campaign_id)
    assert row["log_pruned_through"] == row["revision"] == 2


@pytest.mark.parametrize(("after", "every"), [(600, 15.0), (20, 1.0), (0.5, 0.25)])
def test_timers_look_often_enough(after: float, every: float) -> None:
    assert period(after) == every


def test_what_is_due_after_days_is_looked_for_every_few_minutes() -> None:
    assert period(96 * 3_600, EMAIL_PERIOD_SECONDS_MAX) == EMAIL_PERIOD_SECONDS_MAX == 300
    assert period(3_600, EMAIL_PERIOD_SECONDS_MAX) == 180
    assert period(0.1, EMAIL_PERIOD_SECONDS_MAX) == 0.25


async def test_while_the_store_is_away_a_loop_says_so_ever_more_seldom(
    pool: Any, nats_client: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times a second for an hour told nobody anything."""
    sweepers = make_sweepers(pool, nats_client)
    tries: list[float] = []
    pauses: list[float] = []
    after_failure = Pause.after_failure

    def noted(pause: Pause) -> float:
        pauses.append(after_failure(pause))
        return pauses[-1]

    monkeypatch.setattr(Pause, "after_failure", noted)

    async def fails() -> None:
        tries.append(asyncio.get_running_loop().time())
        raise ConnectionRefusedError

    sweeping = asyncio.create_task(sweepers._forever(0.01, fails))
    try:
        await eventually(lambda: len(tries) == 4, 60, "four tries")
    finally:
        sweeping.cancel()
    waited = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert 0.18 < pauses[0] < pauses[1] < pauses[2]
    # A busy machine waits longer; the clock of the loop may be a little short.
    assert all(took > pause - 0.01 for took, pause in zip(waited, pauses, strict=False))
