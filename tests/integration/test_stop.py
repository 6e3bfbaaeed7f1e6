"""Stopping a campaign: from the answer on nothing is claimed, what is queued is cancelled, the rest goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import nats
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.jetstream.stops import Stop
from outreach.jetstream.topology import stops_subject
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel
from tests.campaign_service import Service, campaign_service, refused
from tests.run_rig import Runs, S, begun, half_failed, stopped_half_way
from tests.waiting import eventually

COMPLETE = campaign_pb2.CAMPAIGN_STATUS_COMPLETE
IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
RETRY = campaign_pb2.CAMPAIGN_ACTION_RETRY
STOP = campaign_pb2.CAMPAIGN_ACTION_STOP


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


async def test_a_stop_is_one_commit_after_which_nothing_is_claimed(service: Service) -> None:
    runs = await begun(service, await service.tenant(), 5)
    before = await runs.get()
    attempts = await runs.claim(2)
    stopped = await runs.stop()
    assert (stopped.status, stopped.run, stopped.etag) == (IN_PROGRESS, 1, before.etag)
    assert stopped.HasField("stop_time")
    assert not stopped.HasField("end_time")
    assert (stopped.counts.queued, stopped.counts.sending) == (3, 2)
    assert STOP in before.allowed_actions
    assert STOP not in stopped.allowed_actions
    claimed = await runs.delivery.claim(runs.running, 10)
    assert (claimed.state, claimed.messages) == (pb.CLAIM_STATE_NOT_RUNNING, [])

    await runs.cancel()
    assert [*(await runs.statuses()).values()] == [S.SENDING] * 2 + [S.CANCELLED] * 3
    assert (await runs.get()).status == IN_PROGRESS, "what was handed over goes on"
    # One was on its way; the other had not begun, and is not sent any more.
    await runs.deliver({1: attempts[1]})
    await runs.report({2: attempts[2]}, pb.OUTCOME_HANDED_BACK)
    await runs.cancel()
    ended = await runs.get()
    assert (ended.status, ended.counts.delivered, ended.counts.cancelled) == (COMPLETE, 1, 4)
    assert ended.HasField("end_time")
    assert ended.HasField("stop_time")
    assert RETRY in ended.allowed_actions
    assert STOP not in ended.allowed_actions
    row = await service.pool.fetchrow("SELECT holds_channel, revision FROM campaign")
    assert not row["holds_channel"]


async def test_failures_of_a_stopped_campaign_are_errors_and_cancelled_ones_are_none(
    service: Service,
) -> None:
    runs = await begun(service, await service.tenant(), 3)
    attempts = await runs.claim(1)
    await runs.stop()
    await runs.fail(attempts)
    assert (await runs.get()).status == IN_PROGRESS
    await runs.cancel()
    ended = await runs.get()
    assert ended.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS
    assert (ended.counts.failed, ended.counts.cancelled) == (1, 2)


async def test_a_stop_of_what_is_all_handed_over_cancels_nothing(service: Service) -> None:
    runs = await begun(service, await service.tenant(), 2)
    attempts = await runs.claim()
    assert (await runs.stop()).counts.queued == 0
    await runs.cancel()
    await runs.deliver(attempts)
    ended = await runs.get()
    assert (ended.status, ended.counts.delivered, ended.counts.cancelled) == (COMPLETE, 2, 0)
    assert RETRY not in ended.allowed_actions


async def test_a_campaign_is_stopped_once(service: Service) -> None:
    runs = await begun(service, await service.tenant())
    outcomes = await asyncio.gather(*(runs.stop() for _ in range(20)), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, campaign_pb2.Campaign)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, OutreachError)]
    assert (len(won), len(lost)) == (1, 19)
    assert {(e.reason, e.metadata["why"], e.metadata["status"]) for e in lost} == {
        ("ACTION_NOT_ALLOWED", "STOPPED", "IN_PROGRESS")
    }
    assert (await runs.get()).stop_time == won[0].stop_time


async def test_a_repeated_stop_gets_the_same_answer(service: Service) -> None:
    runs = await begun(service, await service.tenant())
    request_id = str(uuid4())
    first = await runs.stop(request_id=request_id)
    await runs.cancel()
    assert await runs.stop(request_id=request_id) == first
    async with refused("REQUEST_ID_REUSED"):
        await runs.stop(request_id=request_id, etag=first.etag)


async def test_a_stop_with_another_etag_is_refused(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    stale = campaign.etag
    renamed = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign.id, name="Winter"),
        update_mask=FieldMask(paths=["name"]),
    )
    await tenant.call(tenant.campaigns.UpdateCampaign, renamed)
    running = await tenant.run(campaign.id)
    runs = Runs(service, tenant, campaign.id, 3)
    before = await service.dump()
    async with refused("ETAG_MISMATCH") as caught:
        await runs.stop(etag=stale)
    assert caught["error"].metadata["current_etag"] == running.etag
    assert await service.dump() == before
    assert (await runs.stop(etag=running.etag)).HasField("stop_time")


async def test_only_what_is_in_progress_can_be_stopped(service: Service) -> None:
    tenant = await service.tenant()
    created = await tenant.create()
    ready = await service.ready(tenant)
    ended = await half_failed(service, tenant)
    cancelled = await stopped_half_way(service, tenant)
    before = await service.dump()
    for campaign_id, status in (
        (created.id, "CREATED"),
        (ready.id, "READY"),
        (ended.id, "COMPLETE_WITH_ERRORS"),
        (cancelled.id, "COMPLETE"),
    ):
        async with refused("ACTION_NOT_ALLOWED") as caught:
            await Runs(service, tenant, campaign_id, 0).stop()
        metadata = caught["error"].metadata
        assert (metadata["action"], metadata["status"]) == ("STOP", status)
        assert (metadata["allowed_statuses"], metadata["why"]) == ("IN_PROGRESS", "STATUS")
    assert await service.dump() == before


async def test_a_stop_during_the_import_waits_for_it_and_is_refused(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    async with service.pool.acquire() as connection:
        importing = connection.transaction()
        await importing.start()
        await connection.execute("SELECT FROM campaign WHERE id = $1 FOR UPDATE", campaign.id)
        stopping = asyncio.create_task(Runs(service, tenant, campaign.id, 0).stop())

        async def waits() -> bool:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return bool(await service.pool.fetchval(waiting))

        await eventually(waits, 60, "the stop waits")
        await connection.execute("UPDATE campaign SET status = 2 WHERE id = $1", campaign.id)
        await importing.commit()
    async with refused("ACTION_NOT_ALLOWED") as caught:
        await stopping
    assert caught["error"].metadata["status"] == "READY"


async def test_another_organisations_campaign_is_not_found(service: Service) -> None:
    runs = await begun(service, await service.tenant())
    foreign = Runs(service, await service.tenant(), runs.id, 3)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await foreign.stop()
    async with refused("CAMPAIGN_NOT_FOUND"):
        await foreign.retry()
    async with refused("CAMPAIGN_NOT_FOUND"):
        await foreign.timeline(1)
    assert not (await runs.get()).HasField("stop_time")
    async with refused("INVALID_REQUEST", ("id", "FIELD_REQUIRED")):
        await Runs(service, runs.tenant, "", 3).stop()


async def test_claims_that_race_with_a_stop_are_whole_or_none(service: Service) -> None:
    """Whatever was claimed before the stop is SENDING, all else is cancelled: nothing in between."""
    total = 2_000
    runs = await begun(service, await service.tenant(), total)
    claimed: set[int] = set()
    under_way = asyncio.Event()

    async def claim() -> None:
        while attempts := await runs.claim(7):
            assert not claimed & attempts.keys()
            claimed.update(attempts)
            if len(claimed) >= 50:
                under_way.set()

    async def stop() -> None:
        await under_way.wait()
        await runs.stop()

    await asyncio.gather(claim(), claim(), claim(), stop())
    assert len(claimed) < total, "the stop came too late to prove anything"
    await runs.cancel()
    sending = {n for n, status in (await runs.statuses()).items() if status is S.SENDING}
    assert sending == claimed
    assert set((await runs.statuses()).values()) == {S.SENDING, S.CANCELLED}
    await assert_counts(runs)


async def assert_counts(runs: Runs) -> None:
    """The row's counts are those of the messages."""
    by_message = [*(await runs.statuses()).values()]
    counts = (await runs.get()).counts
    for status in S:
        assert getattr(counts, status.name.lower()) == by_message.count(status)


async def test_senders_are_told_of_a_stop(database_dsn: str, nats_url: str) -> None:
    async with campaign_service(database_dsn, nats_url) as service:
        await service.parts.nats.connected()
        heard: list[bytes] = []
        listener = await nats.connect(nats_url)
        try:

            async def on_stop(message: object) -> None:
                heard.append(message.data)  # type: ignore[attr-defined]

            await listener.subscribe(stops_subject(Channel.SMS), cb=on_stop)
            await listener.flush()
            runs = await begun(service, await service.tenant())
            await runs.stop()
            await eventually(lambda: heard, 60, "the stop is told")
            assert [Stop.decode(data) for data in heard] == [Stop(runs.running.campaign_id, 1)]
        finally:
            await listener.close()


async def test_the_sweeper_cancels_at_once_where_the_stop_was_made(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.campaign.delivery.sweepers.CANCEL_SECONDS", 3_600.0)
    async with campaign_service(database_dsn) as service:
        sweeping = asyncio.create_task(service.parts.sweepers.run())
        try:
            runs = await begun(service, await service.tenant(), 12_000)
            await runs.stop()

            async def cancelled() -> bool:
                return (await runs.get()).counts.cancelled == 12_000

            await eventually(cancelled, 240, "all are cancelled")
            assert (await runs.get()).status == COMPLETE
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})


async def test_the_log_tells_of_each_cancelled_message(service: Service) -> None:
    runs = await begun(service, await service.tenant(), 3)
    await runs.stop()
    await runs.cancel()
    log = await service.pool.fetch("SELECT * FROM change_log ORDER BY revision")
    assert [list(row["numbers"]) for row in log][-1] == [1, 2, 3]
    assert set(log[-1]["statuses"]) == {S.CANCELLED}
    assert [row["revision"] for row in log] == sorted({row["revision"] for row in log})
