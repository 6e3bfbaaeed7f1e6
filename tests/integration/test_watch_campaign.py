"""Watching one campaign, by etcd's words: ordered, unique, atomic, reliable, resumable, bookmarkable, filtered."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.rpc.errors import status_code_of
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import CampaignStatus, Channel, MessageStatus
from services.campaign.watch import campaign_feed
from tests.campaign_data import statuses
from tests.gate import gate_before
from tests.waiting import eventually
from tests.watch_rig import Watch, WatchRig, assert_counts, refusal, statuses_after, watch_rig

NO_NATS_URL = "nats://127.0.0.1:9"


@pytest.fixture
async def rig(database_dsn: str, nats_url: str) -> AsyncIterator[WatchRig]:
    async with watch_rig(database_dsn, nats_url) as rig:
        yield rig


async def test_a_snapshot_then_every_change_in_order_once_and_whole(rig: WatchRig) -> None:
    campaign = await rig.running(200)
    watch = rig.watch(campaign)
    await watch.read()
    assert watch.snapshot is not None
    assert watch.snapshot.counts.queued == 200
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):  # several senders at once
            tasks.create_task(rig.finish(campaign, 7))
        while watch.status != CampaignStatus.COMPLETE_WITH_ERRORS:
            await watch.read()
            assert_counts(watch, 200)
    assert watch.revision == await rig.revision(campaign)
    assert len(watch.history) == 3 * 200, "each message was SENDING, SENT, and final, once"
    assert statuses_after(watch, 200) == await statuses(rig.pool, campaign.campaign_id)
    assert {each[3] for each in watch.history if each[2] == MessageStatus.FAILED} == {2}
    assert {each[4] for each in watch.history} == {1}


async def test_deferred_emails_are_told_through_to_their_end(rig: WatchRig) -> None:
    campaign = await rig.running(3, channel=Channel.EMAIL)
    watch = rig.watch(campaign)
    await watch.read()
    await rig.claim(campaign, 3)
    await rig.report(campaign, pb.OUTCOME_ACCEPTED, 1, 2, 3)
    await rig.report(campaign, pb.OUTCOME_DEFERRED, 1, 2)
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 3)
    await watch.read_through(await rig.revision(campaign))
    assert watch.status == CampaignStatus.ACTIVE_RETRIES
    for _ in range(3):  # told again, it is no news
        await rig.report(campaign, pb.OUTCOME_DEFERRED, 1, 2, 3)
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 1, 2)
    await watch.read_through(await rig.revision(campaign))
    assert watch.status == CampaignStatus.COMPLETE
    # The watch goes on after the end, and hears of the bounce.
    await rig.report(campaign, pb.OUTCOME_FAILED, 3, failure_reason=9)
    await watch.read_through(await rig.revision(campaign))
    assert watch.status == CampaignStatus.COMPLETE_WITH_ERRORS
    assert watch.history[-1] == (watch.revision, 3, MessageStatus.FAILED, 9, 1)
    assert len(watch.history) == 3 * 2 + 2 + 1 + 2 + 1
    assert_counts(watch, 3)


async def test_it_goes_on_from_any_token(rig: WatchRig) -> None:
    campaign = await rig.running(30)
    whole = rig.watch(campaign)
    await whole.read()
    await rig.finish(campaign, 3)
    last = await rig.revision(campaign)
    await whole.read_through(last)
    assert last > 30
    for revision in range(1, last):
        watch = rig.watch(campaign, token=rig.token(campaign, revision))
        await watch.read_through(last)
        assert watch.snapshot is None
        assert watch.history == [each for each in whole.history if each[0] > revision]
        watch.call.cancel()
    at_the_end = rig.watch(campaign, token=whole.token)
    await rig.report(campaign, pb.OUTCOME_FAILED, 1, failure_reason=2)  # changes nothing
    await rig.pool.execute("UPDATE message SET status = 7 WHERE number = 2")
    await rig.pool.execute("UPDATE campaign SET assumed_delivered = 1, delivered = delivered - 1")
    await rig.report(campaign, pb.OUTCOME_DELIVERED, 2)  # a late receipt
    await at_the_end.read()
    assert [each[:3] for each in at_the_end.history] == [(last + 1, 2, MessageStatus.DELIVERED)]


async def test_a_client_that_loses_its_connection_again_and_again_misses_nothing(
    rig: WatchRig,
) -> None:
    campaign = await rig.running(300)
    watch = rig.watch(campaign)
    await watch.read()
    token, told = watch.token, watch
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rig.finish(campaign, 5))
        for _ in range(12):
            watch.call.cancel()
            watch = rig.watch(campaign, token=token)
            await watch.read()
            token = watch.token
            told.history += watch.history
        rest = Watch(watch.call, revision=watch.revision)
    await rest.read_through(await rig.revision(campaign))
    told.history += rest.history
    assert len(told.history) == len(set(told.history)) == 3 * 300
    assert told.history == sorted(told.history, key=lambda each: each[0])
    assert statuses_after(told, 300) == await statuses(rig.pool, campaign.campaign_id)


@pytest.mark.parametrize(
    "token",
    ["x", "no token at all", "AAAA" * 10, "\u00e4\u00f6", "A" * 5_000],
    ids=["short", "text", "forged", "not-ascii", "huge"],
)
async def test_a_token_that_we_never_made_is_refused(rig: WatchRig, token: str) -> None:
    campaign = await rig.running(1)
    error = await refusal(rig.watch(campaign, token=token))
    assert error.reason == "RESUME_TOKEN_INVALID"
    assert status_code_of(error.reason).name == "INVALID_ARGUMENT"


async def test_a_token_is_good_for_its_campaign_and_organisation_only(rig: WatchRig) -> None:
    campaign, other = await rig.running(1), await rig.running(1)
    for token in (
        rig.token(other, 1),
        rig.token(replace(campaign, organisation_id=other.organisation_id), 1),
        rig.token(replace(other, organisation_id=campaign.organisation_id), 1),
    ):
        error = await refusal(rig.watch(campaign, token=token))
        assert error.reason == "RESUME_TOKEN_INVALID"
    stolen = rig.watch(
        campaign, token=rig.token(campaign, 1), organisation_id=other.organisation_id
    )
    assert (await refusal(stolen)).reason == "RESUME_TOKEN_INVALID"


async def test_a_token_older_than_the_log_or_newer_than_the_campaign_has_expired(
    rig: WatchRig,
) -> None:
    campaign = await rig.running(10)
    await rig.finish(campaign, 1)
    last = await rig.revision(campaign)
    await rig.pool.execute("DELETE FROM change_log WHERE revision <= 5")
    await rig.pool.execute("UPDATE campaign SET log_pruned_through = 5")
    for revision in (1, 4, last + 1):
        error = await refusal(rig.watch(campaign, token=rig.token(campaign, revision)))
        assert error.reason == "RESUME_TOKEN_EXPIRED"
        assert status_code_of(error.reason).name == "OUT_OF_RANGE"
    watch = rig.watch(campaign, token=rig.token(campaign, 5))
    await watch.read_through(last)
    assert watch.history[0][0] == 6


async def test_a_gap_in_the_log_is_never_passed_over(rig: WatchRig) -> None:
    campaign = await rig.running(10)
    await rig.finish(campaign, 1)
    # Pruned between the check of the token and the read.
    await rig.pool.execute("DELETE FROM change_log WHERE revision BETWEEN 3 AND 6")
    error = await refusal(rig.watch(campaign, token=rig.token(campaign, 3)))
    assert error.reason == "RESUME_TOKEN_EXPIRED"


async def test_other_campaigns_and_bad_requests_are_refused(rig: WatchRig) -> None:
    campaign = await rig.running(1)
    for watch, reason in (
        (rig.watch(campaign, organisation_id=uuid4()), "CAMPAIGN_NOT_FOUND"),
        (rig.watch(campaign, campaign_id=str(uuid4())), "CAMPAIGN_NOT_FOUND"),
        (rig.watch(campaign, campaign_id="17"), "INVALID_REQUEST"),
        (rig.watch(campaign, campaign_id=""), "INVALID_REQUEST"),
        (rig.watch(campaign, statuses=[0]), "INVALID_REQUEST"),
        (rig.watch(campaign, statuses=[99]), "INVALID_REQUEST"),
    ):
        assert (await refusal(watch)).reason == reason
    await eventually(lambda: rig.hub.readers == 0)


async def test_a_filter_leaves_out_messages_and_nothing_else(rig: WatchRig) -> None:
    campaign = await rig.running(20)
    failed = rig.watch(campaign, statuses=[message_pb2.MESSAGE_STATUS_FAILED])
    counts_only = rig.watch(campaign, include_messages=False)
    for watch in (failed, counts_only):
        await watch.read()
    await rig.finish(campaign, 5)
    last = await rig.revision(campaign)
    for watch in (failed, counts_only):
        await watch.read_through(last)
        assert watch.counts is not None
        assert (watch.counts.delivered, watch.counts.failed) == (18, 2)
        assert watch.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS
    assert [each[1:4] for each in failed.history] == [
        (10, MessageStatus.FAILED, 2),
        (20, MessageStatus.FAILED, 2),
    ]
    assert counts_only.history == []


async def test_many_watchers_share_one_reader_and_leave_nothing_behind(rig: WatchRig) -> None:
    campaign = await rig.running(60)
    watches = [rig.watch(campaign) for _ in range(40)]
    for watch in watches:
        await watch.read()
    await eventually(lambda: rig.hub.readers == 1)
    await rig.finish(campaign, 20)
    last = await rig.revision(campaign)
    for watch in watches:
        await watch.read_through(last)
        assert watch.history == watches[0].history
        assert len(watch.history) == 180
    tasks = {task for task in asyncio.all_tasks() if "Feed" in repr(task.get_coro())}
    assert len(tasks) == 1
    for watch in watches:
        watch.call.cancel()
    await eventually(lambda: rig.hub.readers == 0)
    await eventually(lambda: all(task.done() for task in tasks))
    # The next one starts a reader again.
    again = rig.watch(campaign)
    await again.read()
    await eventually(lambda: rig.hub.readers == 1)


async def test_a_watcher_far_behind_holds_up_no_other_and_is_told_all(rig: WatchRig) -> None:
    campaign = await rig.running(10)
    await rig.long_log(campaign, 3 * campaign_feed.KEPT_COMMITS_MAX, 1)
    behind = rig.watch(campaign, token=rig.token(campaign, 1))
    fresh = rig.watch(campaign)
    await fresh.read()
    assert fresh.revision == 3 * campaign_feed.KEPT_COMMITS_MAX + 1
    await rig.claim(campaign, 4)
    last = await rig.revision(campaign)
    await fresh.read_through(last)
    assert [each[0] for each in fresh.history] == [last] * 4
    await behind.read_through(last)
    revisions = [each[0] for each in behind.history]
    assert revisions == [*range(2, last), last, last, last, last]


async def test_memory_is_bounded_and_who_falls_out_of_it_reads_the_log(
    rig: WatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_feed, "KEPT_COMMITS_MAX", 3)
    campaign = await rig.running(40)
    async with rig.hub.campaign(campaign.campaign_id, 1) as feed:
        await rig.finish(campaign, 1)
        last = await rig.revision(campaign)
        await eventually(lambda: feed.tail == last)
        assert len(feed._kept) == 3
        assert feed.start == last - 3
        assert [each["revision"] for each in await feed.after(last - 3)] == [
            last - 2,
            last - 1,
            last,
        ]
        assert await feed.after(last) == []
        watch = rig.watch(campaign, token=rig.token(campaign, 1))
        await watch.read_through(last)
        assert len(watch.history) == 120


async def test_a_response_holds_whole_commits_of_a_bounded_number_of_changes(
    rig: WatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_feed, "CHANGES_TOGETHER_MAX", 50)
    campaign = await rig.running(100)
    await rig.long_log(campaign, 30, 20)
    watch = rig.watch(campaign, token=rig.token(campaign, 1))
    told = 0
    while watch.revision < 31:
        await watch.read()
        assert (len(watch.history) - told) % 20 == 0, "no commit is split"
        assert 0 < len(watch.history) - told <= 60
        told = len(watch.history)
    assert told == 600


async def test_a_watcher_that_does_not_read_is_cut_off_with_a_token_to_go_on_from(
    database_dsn: str, nats_url: str
) -> None:
    async with watch_rig(database_dsn, nats_url, write_seconds_max=3.0) as rig:
        campaign = await rig.running(1_000)
        await rig.long_log(campaign, 1_500, 1_000)
        watch = rig.watch(campaign, token=rig.token(campaign, 1))
        await eventually(lambda: rig.hub.readers == 1)
        await eventually(lambda: rig.hub.readers == 0, what="the slow one is cut off")
        cut = await refusal(watch)
        assert cut.reason == "WATCHER_TOO_SLOW"
        assert status_code_of(cut.reason).name == "RESOURCE_EXHAUSTED"
        assert 1 < watch.revision < 1_501
        rest = rig.watch(campaign, token=watch.token)
        await rest.read_through(1_501)
        revisions = [each[0] for each in watch.history + rest.history]
        assert revisions == [revision for revision in range(2, 1_502) for _ in range(1_000)]


async def test_a_quiet_watch_has_heartbeats_with_tokens(database_dsn: str, nats_url: str) -> None:
    async with watch_rig(database_dsn, nats_url, heartbeat_seconds=0.1) as rig:
        campaign = await rig.running(2)
        watch = rig.watch(campaign)
        while watch.heartbeats < 3:
            await watch.read()
        assert watch.revision == 1
        await rig.claim(campaign, 1)
        await watch.read_through(2)
        resumed = rig.watch(campaign, token=watch.token)
        await resumed.read()
        assert (resumed.heartbeats, resumed.revision, resumed.token != "") == (1, 2, True)


async def test_a_draining_server_ends_every_watch_and_takes_no_new_one(rig: WatchRig) -> None:
    campaign = await rig.running(1)
    watches = [rig.watch(campaign) for _ in range(3)]
    for watch in watches:
        await watch.read()
    rig.hub.drain()
    for watch in [*watches, rig.watch(campaign)]:
        error = await refusal(watch)
        assert error.reason == "SERVER_DRAINING"
        assert status_code_of(error.reason).name == "UNAVAILABLE"
    await eventually(lambda: rig.hub.readers == 0)


async def test_before_the_readers_run_a_watch_is_told_to_come_again(
    database_dsn: str, nats_url: str
) -> None:
    async with watch_rig(database_dsn, nats_url, run=False) as rig:
        campaign = await rig.running(1)
        for _ in range(2):
            assert (await refusal(rig.watch(campaign))).reason == "SERVER_DRAINING"
        assert rig.hub.readers == 0


async def test_a_campaign_that_is_deleted_ends_its_watches(rig: WatchRig) -> None:
    campaign = await rig.running(1)
    watch = rig.watch(campaign)
    await watch.read()
    token = watch.token
    await rig.pool.execute("DELETE FROM campaign")
    assert (await refusal(watch)).reason == "CAMPAIGN_NOT_FOUND"
    assert (await refusal(rig.watch(campaign, token=token))).reason == "CAMPAIGN_NOT_FOUND"


async def test_without_nats_changes_come_all_the_same(database_dsn: str) -> None:
    async with watch_rig(database_dsn, NO_NATS_URL) as rig:
        campaign = await rig.running(20)
        watch = rig.watch(campaign)
        await watch.read()
        await rig.finish(campaign, 5)
        await watch.read_through(await rig.revision(campaign))
        assert len(watch.history) == 60


async def test_a_database_that_was_away_for_a_moment_costs_nothing(
    database_dsn: str, nats_url: str
) -> None:
    async with (
        gate_before(database_dsn) as (gate, dsn),
        watch_rig(dsn, nats_url) as rig,
    ):
        campaign = await rig.running(20)
        watch = rig.watch(campaign)
        await watch.read()
        async with rig.hub.campaign(campaign.campaign_id, 1) as feed:
            async with gate.shut_for_a_while():
                await eventually(lambda: feed._failing, what="the reader noticed")
            await eventually(lambda: not feed._failing, what="and is back")
        await rig.finish(campaign, 5)
        await watch.read_through(await rig.revision(campaign))
        assert len(watch.history) == 60


async def test_no_heartbeat_while_the_database_is_away(database_dsn: str, nats_url: str) -> None:
    async with (
        gate_before(database_dsn) as (gate, dsn),
        watch_rig(dsn, nats_url, heartbeat_seconds=1.5) as rig,
    ):
        campaign = await rig.running(1)
        watch = rig.watch(campaign)
        await watch.read()
        async with gate.shut_for_a_while():
            assert (await refusal(watch)).reason == "STORE_UNAVAILABLE"
            assert (await refusal(rig.watch(campaign))).reason == "STORE_UNAVAILABLE"
        again = rig.watch(campaign, token=watch.token)
        await again.read()
        assert again.heartbeats == 1
