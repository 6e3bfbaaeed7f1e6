"""Watching all campaigns of an organisation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.rpc.errors import status_code_of
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


async def gone(call: Any) -> tuple[str, int]:
    """The next response, which tells of a campaign that matches no more: id and status."""
    response = await read(call)
    assert response.WhichOneof("event") == "gone"
    return response.gone.id, response.gone.status


async def test_a_new_campaign_and_a_late_receipt_are_told(rig: WatchRig) -> None:
    before = await rig.running(1)
    await rig.finish(before, 1)
    call = rig.watch_all(before.organisation_id)
    assert [each.id for each in await snapshot(call)] == [str(before.campaign_id)]
    campaign = await rig.running(2, organisation_id=before.organisation_id)
    assert (await next_campaign(call)).id == str(campaign.campaign_id)
    # A bounce, long after the end.
    await rig.pool.execute(
        "UPDATE message SET status = 7 WHERE campaign_id = $1", before.campaign_id
    )
    await rig.pool.execute(
        "UPDATE campaign SET assumed_delivered = 1, delivered = 0 WHERE id = $1",
        before.campaign_id,
    )
    await next_campaign(call)
    await rig.report(before, pb.OUTCOME_FAILED, 1, failure_reason=2)
    late = await next_campaign(call)
    assert (late.id, late.counts.failed) == (str(before.campaign_id), 1)


async def test_a_campaign_that_matches_no_more_is_gone_and_comes_again(rig: WatchRig) -> None:
    campaign = await rig.running(3, channel=Channel.EMAIL)
    running = rig.watch_all(campaign.organisation_id, statuses=[IN_PROGRESS])
    ended = rig.watch_all(
        campaign.organisation_id, statuses=[campaign_pb2.CAMPAIGN_STATUS_COMPLETE]
    )
    assert [each.id for each in await snapshot(running)] == [str(campaign.campaign_id)]
    assert await snapshot(ended) == []
    await rig.claim(campaign, 3)
    assert (await next_campaign(running)).counts.sending == 3
    async with rig.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE message SET status = 5")
        await connection.execute(
            "UPDATE campaign SET sending = 0, retrying = 3, status = 4, holds_channel = false"
        )
    deferred = campaign_pb2.CAMPAIGN_STATUS_ACTIVE_RETRIES
    assert await gone(running) == (str(campaign.campaign_id), deferred)
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 1, 2, 3)
    # Who did not see it before sees it now, and whoever was told that it is gone hears no more.
    assert (await next_campaign(ended)).counts.delivered == 3
    again = await rig.running(1, organisation_id=campaign.organisation_id)
    assert (await next_campaign(running)).id == str(again.campaign_id)


async def test_a_deleted_campaign_is_gone(rig: WatchRig) -> None:
    kept = await rig.running(1)
    deleted = await rig.running(1, organisation_id=kept.organisation_id, channel=Channel.EMAIL)
    everything = rig.watch_all(kept.organisation_id)
    sms = rig.watch_all(kept.organisation_id, channel=channel_pb2.CHANNEL_SMS)
    assert len(await snapshot(everything)) == 2
    assert len(await snapshot(sms)) == 1
    await rig.pool.execute("DELETE FROM campaign WHERE id = $1", deleted.campaign_id)
    assert await gone(everything) == (str(deleted.campaign_id), 0)
    await rig.claim(kept, 1)
    # Who was never told of it is not told that it is gone.
    assert (await next_campaign(sms)).id == str(kept.campaign_id)
    assert len(await snapshot(rig.watch_all(kept.organisation_id))) == 1


@pytest.mark.parametrize("channel", Channel)
async def test_bodies_are_left_out_and_the_rest_is_there(rig: WatchRig, channel: Channel) -> None:
    campaign = await rig.running(2, channel=channel)
    content = {
        Channel.SMS: '{"body": "A secret body"}',
        Channel.EMAIL: '{"subject": "News", "preheader": "Soon", "html": "A secret body",'
        ' "text": "A secret body"}',
    }[channel]
    await rig.pool.execute("UPDATE campaign_content SET content = $1::text::jsonb", content)
    call = rig.watch_all(campaign.organisation_id)
    told = await snapshot(call)
    await rig.claim(campaign, 1)
    told.append(await next_campaign(call))
    await rig.claim(campaign, 1)
    told.append(await next_campaign(call))
    for each in told:
        assert b"secret" not in each.SerializeToString()
        assert each.WhichOneof("content") == channel.name.lower()
        assert each.email.subject == ("News" if channel is Channel.EMAIL else "")
        assert [column.name for column in each.columns] == ["name"]
    assert [each.counts.sending for each in told] == [0, 1, 2]


async def test_a_content_that_was_edited_and_run_at_once_is_told_as_it_was_run(
    rig: WatchRig,
) -> None:
    campaign = await rig.running(1, channel=Channel.EMAIL)
    await rig.pool.execute("UPDATE campaign SET status = 2, holds_channel = false, run = 0")
    call = rig.watch_all(campaign.organisation_id)
    await snapshot(call)
    async with rig.pool.acquire() as connection, connection.transaction():
        await connection.execute('UPDATE campaign_content SET content = \'{"subject": "New"}\'')
        await connection.execute("UPDATE campaign SET status = 3, holds_channel = true, run = 1")
    assert (await next_campaign(call)).email.subject == "New"


async def test_the_snapshot_has_the_newest_200(rig: WatchRig) -> None:
    campaign = await rig.running(1)
    await rig.pool.execute(
        """
        WITH made AS (
            INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status)
            SELECT gen_random_uuid(), $1, 1, 'Draft', 1, 1 FROM generate_series(1, 250)
            RETURNING id
        )
        INSERT INTO campaign_content (campaign_id, content_hash, content)
        SELECT id, 'hash', '{"body": "Hello"}' FROM made
        """,
        campaign.organisation_id,
    )
    ids = [
        str(row["id"]) for row in await rig.pool.fetch("SELECT id FROM campaign ORDER BY id DESC")
    ]
    told = await snapshot(rig.watch_all(campaign.organisation_id))
    assert [each.id for each in told] == ids[:200]
    drafts = rig.watch_all(
        campaign.organisation_id, statuses=[campaign_pb2.CAMPAIGN_STATUS_CREATED]
    )
    newest = [each for each in ids if each != str(campaign.campaign_id)][:200]
    assert [each.id for each in await snapshot(drafts)] == newest
    # An old one that was not in it is told when it changes.
    await rig.pool.execute("UPDATE campaign SET name = 'Old' WHERE id::text = $1", ids[-1])
    old = await next_campaign(drafts)
    assert (old.id, old.name) == (ids[-1], "Old")


async def test_a_slow_reader_is_cut_and_the_others_are_not(
    database_dsn: str, nats_url: str
) -> None:
    async with watch_rig(database_dsn, nats_url, write_seconds_max=2.0) as rig:
        campaign = await rig.running(1)
        slow = rig.watch_all(campaign.organisation_id)
        call = rig.watch_all(campaign.organisation_id)
        await snapshot(call)
        # Nothing is read of `slow`: what is on its way fills up, then no write gets through.
        name = 0
        async with asyncio.timeout(200):
            feed = rig.hub._organisations[campaign.organisation_id]
            while feed.watchers == 2:
                name += 1
                await rig.pool.execute(
                    "UPDATE campaign SET name = $1 || repeat('y', 2000000)", f"{name} "
                )
                assert (await next_campaign(call)).name.startswith(f"{name} ")
        cut = await refusal(slow)
        assert cut.reason == "WATCHER_TOO_SLOW"
        assert status_code_of(cut.reason).name == "RESOURCE_EXHAUSTED"
        assert rig.hub.readers == 1
        (again,) = await snapshot(rig.watch_all(campaign.organisation_id))
        assert again.name.startswith(f"{name} ")


async def test_a_watcher_behind_what_is_kept_is_cut(
    rig: WatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await rig.running(1)
    feed = OrganisationFeed(rig.pool, campaign.organisation_id)
    monkeypatch.setattr("services.campaign.watch.organisation_feed.UPDATES_MAX", 1)
    feed.ask()
    await feed._look()
    await rig.running(1, organisation_id=campaign.organisation_id, channel=Channel.EMAIL)
    await rig.pool.execute("UPDATE campaign SET name = 'Other'")
    feed.ask()
    await feed._look()
    assert len(feed.updates_after(1)) == 1
    with pytest.raises(OutreachError) as info:
        feed.updates_after(0)
    assert info.value.reason == "WATCHER_TOO_SLOW"


@pytest.mark.parametrize("nats", [True, False], ids=["nats", "no-nats"])
async def test_a_campaign_that_began_and_ended_between_two_looks_is_told(
    database_dsn: str, nats_url: str, nats: bool
) -> None:
    async with watch_rig(database_dsn, nats_url if nats else NO_NATS_URL) as rig:
        first = await rig.running(1)
        await rig.finish(first, 1)
        call = rig.watch_all(first.organisation_id)
        assert len(await snapshot(call)) == 1
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
    error = await refusal(rig.watch_all(sms.organisation_id, channel=9, statuses=[9]))
    assert [(each.field, each.reason) for each in error.violations] == [
        ("channel", "FIELD_INVALID"),
        ("statuses[0]", "FIELD_INVALID"),
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
    calls = [rig.watch_all(campaign.organisation_id) for _ in range(200)]
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
