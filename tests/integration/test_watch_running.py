"""Watching all running campaigns of an organisation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2, channel_pb2
from outreach.vocabulary import Channel
from services.campaign.watch.organisation_feed import OrganisationFeed
from tests.campaign_data import Running
from tests.gate import gate_before
from tests.waiting import eventually
from tests.watch_rig import WatchRig, read, refusal, watch_rig

IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
NO_NATS_URL = "nats://127.0.0.1:9"


@pytest.fixture
async def rig(database_dsn: str, nats_url: str) -> AsyncIterator[WatchRig]:
    async with watch_rig(database_dsn, nats_url, heartbeat_seconds=60) as rig:
        yield rig


async def snapshot(call: Any) -> list[campaign_pb2.Campaign]:
    """The first response of a watch."""
    response = await read(call)
    assert response.WhichOneof("event") == "snapshot"
    return list(response.snapshot.campaigns)


async def next_campaign(call: Any) -> campaign_pb2.Campaign:
    """The next response, which tells of a campaign."""
    response = await read(call)
    assert response.WhichOneof("event") == "campaign"
    campaign: campaign_pb2.Campaign = response.campaign
    return campaign


async def told_until_ended(call: Any, campaign: Running) -> list[campaign_pb2.Campaign]:
    """Everything told of this campaign, through its end; nothing else is told."""
    told: list[campaign_pb2.Campaign] = []
    while not told or told[-1].status == IN_PROGRESS:
        told.append(await next_campaign(call))
        assert told[-1].id == str(campaign.campaign_id)
    return told


async def test_a_snapshot_then_each_change_and_the_end_once(rig: WatchRig) -> None:
    campaign = await rig.running(100)
    call = rig.watch_all(campaign.organisation_id)
    (first,) = await snapshot(call)
    assert (first.id, first.status) == (str(campaign.campaign_id), IN_PROGRESS)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rig.finish(campaign, 5))
        told = await told_until_ended(call, campaign)
    revisions = [each.revision for each in told]
    assert revisions == sorted(set(revisions))
    assert told[-1].status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS
    assert told[-1].revision == await rig.revision(campaign)
    assert (told[-1].counts.delivered, told[-1].counts.failed) == (90, 10)


async def test_a_campaign_that_begins_later_is_told_and_late_receipts_of_ended_ones_are_not(
    rig: WatchRig,
) -> None:
    before = await rig.running(1)
    await rig.finish(before, 1)
    call = rig.watch_all(before.organisation_id)
    assert await snapshot(call) == []
    campaign = await rig.running(2, organisation_id=before.organisation_id)
    assert (await next_campaign(call)).id == str(campaign.campaign_id)
    await rig.finish(campaign, 2)
    await told_until_ended(call, campaign)
    # Its first message was only assumed to be delivered; now the receipt comes.
    await rig.pool.execute(
        "UPDATE message SET status = 7 WHERE campaign_id = $1 AND number = 1", campaign.campaign_id
    )
    await rig.pool.execute(
        "UPDATE campaign SET assumed_delivered = 1, delivered = 1 WHERE id = $1",
        campaign.campaign_id,
    )
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 1)
    third = await rig.running(1, organisation_id=before.organisation_id)
    assert (await next_campaign(call)).id == str(third.campaign_id)


async def test_a_campaign_whose_last_emails_are_deferred_runs_no_more(rig: WatchRig) -> None:
    campaign = await rig.running(3, channel=Channel.EMAIL)
    call = rig.watch_all(campaign.organisation_id)
    assert [each.id for each in await snapshot(call)] == [str(campaign.campaign_id)]
    await rig.claim(campaign, 3)
    await rig.report(campaign, pb.OUTCOME_ACCEPTED, 1, 2, 3)
    await rig.report(campaign, pb.OUTCOME_DEFERRED, 1, 2)
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 3)
    told = await told_until_ended(call, campaign)
    assert told[-1].status == campaign_pb2.CAMPAIGN_STATUS_ACTIVE_RETRIES
    assert not told[-1].HasField("end_time")
    # Its last status here; another campaign may run, while the end of this one is seen where it is watched itself.
    other = await rig.running(1, channel=Channel.EMAIL, organisation_id=campaign.organisation_id)
    assert (await next_campaign(call)).id == str(other.campaign_id)
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 1, 2)
    await rig.finish(other, 1)
    assert (await told_until_ended(call, other))[-1].id == str(other.campaign_id)


@pytest.mark.parametrize("nats", [True, False], ids=["nats", "no-nats"])
async def test_a_campaign_that_began_and_ended_between_two_looks_is_told(
    database_dsn: str, nats_url: str, nats: bool
) -> None:
    async with watch_rig(database_dsn, nats_url if nats else NO_NATS_URL) as rig:
        first = await rig.running(1)
        await rig.finish(first, 1)
        call = rig.watch_all(first.organisation_id)
        assert await snapshot(call) == []
        campaign_id = uuid4()
        # In one commit: no look can see it running.
        await rig.pool.execute(
            """
            WITH made AS (
                INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy,
                    status, delivered, total, run, revision, start_time, end_time)
                VALUES ($1, $2, 1, 'Short', 1, 5, 1, 1, 1, 9, now(), now())
            )
            INSERT INTO campaign_content (campaign_id, content_hash, content)
            VALUES ($1, 'hash', '{"body": "Hello"}')
            """,
            campaign_id,
            first.organisation_id,
        )
        told = await next_campaign(call)
        assert (told.id, told.revision) == (str(campaign_id), 9)
        assert told.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE


async def test_a_retried_campaign_is_told_again_when_it_ends_again(rig: WatchRig) -> None:
    campaign = await rig.running(10)
    call = rig.watch_all(campaign.organisation_id)
    await snapshot(call)
    await rig.finish(campaign, 10)
    await told_until_ended(call, campaign)
    await rig.pool.execute(
        "UPDATE campaign SET holds_channel = true, status = 3, failed = 0, queued = 1, run = 2, "
        "revision = revision + 1, end_time = NULL"
    )
    again = await next_campaign(call)
    assert (again.status, again.run) == (IN_PROGRESS, 2)
    await rig.pool.execute(
        "UPDATE campaign SET holds_channel = false, status = 5, delivered = 10, queued = 0, "
        "revision = revision + 1, end_time = now()"
    )
    ended = await next_campaign(call)
    assert (ended.status, ended.run) == (campaign_pb2.CAMPAIGN_STATUS_COMPLETE, 2)


async def test_only_the_channel_and_the_organisation_asked_for(rig: WatchRig) -> None:
    sms = await rig.running(3)
    email = await rig.running(3, organisation_id=sms.organisation_id, channel=Channel.EMAIL)
    stranger = await rig.running(3)
    calls = {
        channel: rig.watch_all(sms.organisation_id, channel=channel)
        for channel in (0, channel_pb2.CHANNEL_SMS, channel_pb2.CHANNEL_EMAIL)
    }
    seen = {channel: {each.id for each in await snapshot(call)} for channel, call in calls.items()}
    assert seen == {
        0: {str(sms.campaign_id), str(email.campaign_id)},
        channel_pb2.CHANNEL_SMS: {str(sms.campaign_id)},
        channel_pb2.CHANNEL_EMAIL: {str(email.campaign_id)},
    }
    await rig.claim(stranger, 1)
    await rig.claim(sms, 1)
    await rig.claim(email, 2)
    told = await next_campaign(calls[channel_pb2.CHANNEL_EMAIL])
    assert (told.id, told.counts.sending) == (str(email.campaign_id), 2)
    error = await refusal(rig.watch_all(sms.organisation_id, channel=9))
    assert [(each.field, each.reason) for each in error.violations] == [
        ("channel", "FIELD_INVALID")
    ]


async def test_many_watchers_share_one_look_and_leave_nothing_behind(
    rig: WatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = OrganisationFeed._look

    async def counted(feed: OrganisationFeed) -> bool:
        nonlocal looks
        looks += 1
        return await look(feed)

    monkeypatch.setattr(OrganisationFeed, "_look", counted)
    campaign = await rig.running(5)
    calls = [rig.watch_all(campaign.organisation_id) for _ in range(50)]
    for call in calls:
        assert len(await snapshot(call)) == 1
    assert rig.hub.readers == 1
    looks = 0
    await rig.claim(campaign, 1)
    for call in calls:
        assert (await next_campaign(call)).counts.sending == 1
    assert looks < 10
    for call in calls:
        call.cancel()
    await eventually(lambda: rig.hub.readers == 0)


async def test_a_snapshot_has_what_was_committed_before_it_was_asked_for(
    database_dsn: str,
) -> None:
    # Without NATS a reader that is there already looks only once a second.
    async with watch_rig(database_dsn, NO_NATS_URL) as rig:
        campaign = await rig.running(50)
        first = rig.watch_all(campaign.organisation_id)
        await snapshot(first)
        for _ in range(5):
            await rig.claim(campaign, 1)
            call = rig.watch_all(campaign.organisation_id)
            (now,) = await snapshot(call)
            assert now.revision == await rig.revision(campaign)


async def test_heartbeats_when_quiet_and_none_while_the_database_is_away(
    database_dsn: str, nats_url: str
) -> None:
    async with (
        gate_before(database_dsn) as (gate, dsn),
        watch_rig(dsn, nats_url, heartbeat_seconds=1.2) as rig,
    ):
        organisation_id = uuid4()
        call = rig.watch_all(organisation_id)
        assert await snapshot(call) == []
        assert (await read(call)).WhichOneof("event") == "heartbeat"
        async with gate.shut_for_a_while():
            assert (await refusal(call)).reason == "STORE_UNAVAILABLE"
            assert (await refusal(rig.watch_all(organisation_id))).reason == "STORE_UNAVAILABLE"
        assert await snapshot(rig.watch_all(organisation_id)) == []


async def test_a_draining_server_ends_every_watch(rig: WatchRig) -> None:
    calls = [rig.watch_all(uuid4()) for _ in range(3)]
    for call in calls:
        await snapshot(call)
    rig.hub.drain()
    for call in [*calls, rig.watch_all(uuid4())]:
        assert (await refusal(call)).reason == "SERVER_DRAINING"
    await eventually(lambda: rig.hub.readers == 0)
