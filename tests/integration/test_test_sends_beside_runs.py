"""Test sends beside runs: they hold no channel, show up nowhere, and the delivery treats them as any
other campaign; and they go when their time is over.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.jetstream.jobs import Job
from outreach.jetstream.topology import JOBS_STREAM, ensure_topology
from outreach.v1 import campaign_pb2, failure_reason_pb2, watch_pb2, watch_pb2_grpc
from outreach.vocabulary import Channel, MessageStatus
from services.campaign.store import test_sends
from tests.campaign_data import statuses
from tests.campaign_service import refused
from tests.trial_rig import TO, TrialRig, accepted, report, trial_rig
from tests.waiting import eventually

S = MessageStatus
TABLES = ("campaign", "campaign_content", "contact", "message", "change_log", "unknown_attempt")


@pytest.fixture
async def rig(database_dsn: str, nats_url: str) -> AsyncIterator[TrialRig]:
    async with trial_rig(database_dsn, nats_url) as running:
        running.service.parts.test_sends._answer_seconds_max = 0.0
        yield running


async def listed(rig: TrialRig, **where: Any) -> list[str]:
    request = campaign_pb2.ListCampaignsRequest(filter=campaign_pb2.CampaignFilter(**where))
    page = await rig.owner.call(rig.owner.campaigns.ListCampaigns, request)
    return [campaign.id for campaign in page.campaigns]


async def snapshot(rig: TrialRig) -> tuple[Any, list[str]]:
    """A call that watches the running campaigns, and those of its snapshot."""
    stub: Any = watch_pb2_grpc.WatchServiceStub(rig.owner.channel)
    request = watch_pb2.WatchCampaignsRequest(statuses=[campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS])
    call = stub.WatchCampaigns(request, metadata=rig.owner.metadata)
    first = await asyncio.wait_for(call.read(), 60)
    return call, [campaign.id for campaign in first.snapshot.campaigns]


async def test_a_campaign_is_run_while_its_tests_are_under_way(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    tests = [await rig.send(campaign.id) for _ in range(2)]
    assert [row["holds_channel"] for row in await rig.rows()] == [True, True]
    running = await rig.owner.run(campaign.id)
    assert running.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    second = await rig.service.ready(rig.owner)
    async with refused("CHANNEL_BUSY") as caught:
        await rig.owner.run(second.id)
    assert caught["error"].metadata["running_campaign_id"] == campaign.id
    # Beside the run, of the campaign that runs and of another one.
    for campaign_id in (campaign.id, second.id):
        test = await rig.sent(campaign_id)
        assert test.messages[0].recipient == TO
    assert len(await rig.rows()) == len(tests) + 2
    assert (await rig.owner.get(campaign.id)).counts == running.counts


async def test_a_test_alone_is_no_running_campaign(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    test = await rig.send(campaign.id)
    assert await listed(rig) == [campaign.id]
    assert await listed(rig, statuses=[campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS]) == []
    call, running = await snapshot(rig)
    assert running == []
    # It begins and ends while it is watched, and then a run does: only that is told.
    (message,) = await rig.claim(UUID(test.id))
    delivered = report(message, pb.OUTCOME_DELIVERED)
    await rig.report(UUID(test.id), delivered)
    assert (await rig.get(test.id)).final
    await rig.owner.run(campaign.id)
    told = await asyncio.wait_for(call.read(), 60)
    assert told.campaign.id == campaign.id
    call.cancel()


async def test_jobs_are_dispatched_for_it_and_for_the_run_beside_it(rig: TrialRig) -> None:
    nats = rig.service.parts.nats
    await nats.connected()
    await ensure_topology(nats.jetstream, (Channel.SMS,))
    campaign = await rig.service.ready(rig.owner)
    test = await rig.send(campaign.id, [TO, "+15005559002"])
    await rig.owner.run(campaign.id)

    async def jobs() -> set[tuple[str, int, int, int]]:
        info = await nats.jetstream.stream_info(JOBS_STREAM)
        raw = [
            await nats.jetstream.get_msg(JOBS_STREAM, sequence)
            for sequence in range(1, info.state.last_seq + 1)
        ]
        decoded = [Job.decode(message.data or b"") for message in raw]
        return {(str(job.campaign_id), job.run, job.first, job.last) for job in decoded}

    async def both() -> bool:
        return await jobs() == {(test.id, 1, 1, 2), (campaign.id, 1, 1, 3)}

    async with asyncio.TaskGroup() as tasks:
        dispatching = tasks.create_task(rig.service.parts.dispatcher.run())
        await eventually(both, what="a job each")
        dispatching.cancel()


async def test_what_a_dead_sender_had_of_it_is_handed_back_or_unknown(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    test = await rig.send(campaign.id, [TO, "+15005559002"])
    test_send_id = UUID(test.id)
    begun, _ = await rig.claim(test_send_id)
    ended = pb.EndedInstance(
        instance_id=str(rig.instance),
        begun=[
            pb.BegunAttempts(campaign_id=test.id, numbers=[begun.number], attempts=[begun.attempt])
        ],
    )
    batch = pb.ReportBatch(sequence=1, ended_instances=[ended])
    await rig.service.parts.delivery.reports.apply([batch])
    assert await statuses(rig.service.pool, test_send_id) == {1: S.SENDING, 2: S.QUEUED}
    assert await rig.claim(test_send_id) == [], "that process is dead"
    rig.instance = uuid4()
    (again,) = await rig.claim(test_send_id)
    assert (again.number, again.attempt) == (2, 2)
    # Looked up, found by nobody, and given up in the end.
    pool = rig.service.pool
    await pool.execute("UPDATE unknown_attempt SET next_look_up_time = now() - interval '1 s'")
    leased = await rig.service.parts.delivery.look_ups.lease(test_send_id, 10)
    assert [attempt.message.recipient for attempt in leased.attempts] == [TO]
    await pool.execute("UPDATE unknown_attempt SET unknown_time = now() - interval '1 hour'")
    await rig.service.parts.sweepers.give_up_unknown()
    told = (await rig.get(test.id)).messages[0]
    assert told.failure_reason == failure_reason_pb2.FAILURE_REASON_UNCONFIRMED


async def test_its_messages_are_assumed_delivered(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    test = await rig.sent(campaign.id)
    await rig.service.pool.execute("UPDATE message SET update_time = now() - interval '1 hour'")
    await rig.service.parts.sweepers.assume_delivered()
    assert (await rig.get(test.id)).final
    row = (await rig.rows())[0]
    assert (row["assumed_delivered"], row["holds_channel"]) == (1, False)


async def _leftovers(rig: TrialRig, test_send_id: str) -> list[str]:
    found = []
    for table in TABLES:
        key = "id" if table == "campaign" else "campaign_id"
        count = await rig.service.pool.fetchval(
            f"SELECT count(*) FROM {table} WHERE {key} = $1", UUID(test_send_id)
        )
        found += [table] if count else []
    return found


async def _with_everything(rig: TrialRig, campaign_id: str) -> str:
    """A test send with a row in every table."""
    test = await rig.send(campaign_id)
    (message,) = await rig.claim(UUID(test.id))
    await rig.report(UUID(test.id), report(message, pb.OUTCOME_UNKNOWN))
    assert await _leftovers(rig, test.id) == [*TABLES]
    return test.id


async def test_old_test_sends_go_with_all_that_is_theirs(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    old, young = [await _with_everything(rig, campaign.id) for _ in range(2)]
    await rig.service.pool.execute(
        "UPDATE campaign SET create_time = now() - interval '7 days 1 minute' "
        "WHERE id = $1 OR test_of IS NULL",
        UUID(old),
    )
    await rig.service.pool.execute(
        "UPDATE campaign SET create_time = now() - interval '6 days 23 hours' WHERE id = $1",
        UUID(young),
    )
    await rig.service.parts.sweepers.keep_house()
    assert await _leftovers(rig, old) == []
    assert await _leftovers(rig, young) == [*TABLES]
    async with refused("TEST_SEND_NOT_FOUND"):
        await rig.get(old)
    assert (await rig.get(young)).id == young
    assert (await rig.owner.get(campaign.id)).counts.total == 3
    # Late news of what is gone means nothing.
    late = pb.Report(number=1, attempt=1, outcome=pb.OUTCOME_DELIVERED)
    await rig.report(UUID(old), late)
    assert await _leftovers(rig, old) == []


async def test_a_purge_takes_a_bounded_number_and_leaves_those_that_are_worked_on(
    rig: TrialRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_sends, "DELETED_TOGETHER_MAX", 2)
    campaign = await rig.service.ready(rig.owner)
    ids = [(await rig.send(campaign.id)).id for _ in range(4)]
    pool = rig.service.pool
    await pool.execute("UPDATE campaign SET create_time = now() - interval '8 days'")
    async with pool.acquire() as busy, busy.transaction():
        await busy.execute("SELECT FROM campaign WHERE id = $1 FOR NO KEY UPDATE", UUID(ids[0]))
        async with pool.acquire() as connection:
            assert await test_sends.purge_test_sends(connection) == 2
    assert [str(row["id"]) for row in await rig.rows()] == [ids[0], ids[3]]
    async with pool.acquire() as connection:
        assert await test_sends.purge_test_sends(connection) == 2
        assert await test_sends.purge_test_sends(connection) == 0
    assert await rig.rows() == []


async def test_a_campaigns_test_sends_can_be_deleted_with_it(
    rig: TrialRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_sends, "DELETED_TOGETHER_MAX", 2)
    campaign, other = [await rig.service.ready(rig.owner) for _ in range(2)]
    gone = [await _with_everything(rig, campaign.id) for _ in range(3)]
    kept = await _with_everything(rig, other.id)
    async with rig.service.pool.acquire() as connection, connection.transaction():
        deleted = await test_sends.delete_test_sends_of(connection, UUID(campaign.id))
    assert deleted == 3
    for test_send_id in gone:
        assert await _leftovers(rig, test_send_id) == []
    assert await _leftovers(rig, kept) == [*TABLES]
    assert (await rig.owner.get(campaign.id)).counts.total == 3


async def test_what_runs_is_found_by_an_index(rig: TrialRig) -> None:
    """The delivery asks for it many times a second, whatever number of campaigns there is."""
    async with rig.service.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetch("EXPLAIN SELECT id FROM campaign WHERE holds_channel")
    assert "campaign_in_progress" in "\n".join(row[0] for row in plan)


async def test_an_accepted_test_leaves_the_campaigns_own_messages_alone(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    await rig.owner.run(campaign.id)
    test = await rig.send(campaign.id)
    (message,) = await rig.claim(UUID(test.id))
    await rig.report(UUID(test.id), accepted(message))
    own = await statuses(rig.service.pool, UUID(campaign.id))
    assert set(own.values()) == {S.QUEUED}
