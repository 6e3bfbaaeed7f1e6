"""The webhook inbox by itself: how thousands of entries are stored, forwarded, and held while commits are slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from uuid import UUID

import nats
import orjson
import pytest
import structlog
from nats.aio.subscription import Subscription

from outreach.jetstream import topology
from outreach.jetstream.connection import nats_connection
from outreach.jetstream.publisher import NotStored, Publisher
from outreach.sending import inbox as inbox_module
from outreach.sending.attempt_token import AttemptId
from outreach.sending.inbox import Inbox, InboxEntry
from outreach.vocabulary import Channel
from tests.email_webhook_rig import EmailCampaign, EmailRig, email_rig
from tests.waiting import eventually

ORGANISATION = UUID("01a20890-074e-777d-9543-4c0f9cd8fde3")
CAMPAIGN = UUID("01a20890-074e-777d-9543-4c0f9cd8fde4")
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def entry(number: int, filling: int = 0) -> InboxEntry:
    fields = {"event": "delivered", "filling": "x" * filling}
    return InboxEntry(ORGANISATION, AttemptId(ORGANISATION, CAMPAIGN, number, 1), fields, NOW)


@asynccontextmanager
async def storing(nats_url: str, *, runs: bool = True) -> AsyncIterator[tuple[Inbox, Subscription]]:
    """An inbox, and what it publishes."""
    spying = await nats.connect(nats_url)
    spy = await spying.subscribe("outreach.inbox.sms")
    try:
        async with nats_connection(nats_url, name="test") as connection:
            await connection.connected()
            await topology.ensure_topology(connection.jetstream, (Channel.SMS,))
            inbox = Inbox(Publisher(connection, ack_seconds_max=60.0), "outreach.inbox.sms")
            running = asyncio.create_task(inbox.run()) if runs else None
            yield inbox, spy
            if running is not None:
                running.cancel()
                await asyncio.wait({running})
    finally:
        await spying.close()


async def numbers_in(spy: Subscription, messages: int) -> list[list[int]]:
    """The entries of the next messages; there are no more."""
    found = []
    for _ in range(messages):
        message = await spy.next_msg(timeout=60)
        assert len(message.data) <= inbox_module.MESSAGE_BYTES_MAX
        found.append([one["number"] for one in orjson.loads(message.data)])
    assert not spy.pending_msgs
    return found


async def test_many_entries_are_stored_in_few_messages(nats_url: str) -> None:
    async with storing(nats_url) as (inbox, spy):
        items = [(f"id-{number}", entry(number)) for number in range(1, 2_501)]
        assert await inbox.store_many(items) == 2_500
        stored = await numbers_in(spy, 3)
        assert sorted(map(len, stored)) == [500, 1_000, 1_000]
        assert sorted(chain.from_iterable(stored)) == list(range(1, 2_501))
        assert await inbox.store_many(items) == 0
        assert await inbox.store_many([*items[:10], ("", entry(1)), ("new", entry(2))]) == 2
        assert sorted(await numbers_in(spy, 1)) == [[1, 2]]
        assert await inbox.store_many([]) == 0


async def test_long_entries_are_stored_in_more_messages(nats_url: str) -> None:
    async with storing(nats_url) as (inbox, spy):
        items = [("", entry(number, filling=3_000)) for number in range(1, 801)]
        assert await inbox.store_many(items) == 800
        stored = await numbers_in(spy, 4)
        assert sorted(chain.from_iterable(stored)) == list(range(1, 801))


async def test_an_entry_that_is_too_long_for_nats_is_not_stored_and_takes_no_others_with_it(
    nats_url: str,
) -> None:
    async with storing(nats_url) as (inbox, _):
        long = asyncio.create_task(inbox.store(entry(1, filling=3_000_000), entry_id="long"))
        await inbox.store(entry(2), entry_id="short")
        with pytest.raises(NotStored):
            await long


async def test_calls_that_come_together_share_a_message(nats_url: str) -> None:
    async with storing(nats_url) as (inbox, spy):
        await asyncio.gather(
            inbox.store(entry(1), entry_id="1"),
            inbox.store_many([("2", entry(2)), ("3", entry(3))]),
            inbox.store(entry(4), entry_id=""),
        )
        assert await numbers_in(spy, 1) == [[1, 2, 3, 4]]


async def test_when_too_many_wait_more_are_refused(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "WAITING_MAX", 10)
    async with storing(nats_url, runs=False) as (inbox, _):
        waiting = asyncio.create_task(
            inbox.store_many([("", entry(number)) for number in range(1, 12)])
        )
        await asyncio.sleep(0)
        with pytest.raises(NotStored, match="too many"):
            await inbox.store(entry(12), entry_id="12")
        running = asyncio.create_task(inbox.run())
        assert await waiting == 11
        await inbox.store(entry(12), entry_id="12")
        running.cancel()


async def test_what_was_not_stored_is_not_remembered(nats_url: str) -> None:
    async with storing(nats_url) as (inbox, spy):
        await spy.unsubscribe()  # with nobody there JetStream's silence is known at once
        connection = await nats.connect(nats_url)
        try:
            jetstream = connection.jetstream()
            await jetstream.delete_stream(topology.INBOX_STREAM)
            with pytest.raises(NotStored):
                await inbox.store_many([("1", entry(1)), ("2", entry(2))])
            await topology.ensure_topology(jetstream, (Channel.SMS,))
            assert await inbox.store_many([("1", entry(1)), ("2", entry(2))]) == 2
            assert (await jetstream.stream_info(topology.INBOX_STREAM)).state.messages == 1
        finally:
            await connection.close()


async def test_the_memory_of_ids_has_an_end(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "REMEMBERED_MAX", 20)
    async with storing(nats_url) as (inbox, _):
        for number in range(1, 41):
            await inbox.store(entry(number), entry_id=str(number))
        remembered = [str(number) in inbox._remembered for number in range(1, 41)]
        assert all(remembered[-10:])
        assert not any(remembered[:20])
        await inbox.store_many([(f"many-{number}", entry(number)) for number in range(1, 101)])
        assert sum(f"many-{number}" in inbox._remembered for number in range(1, 101)) <= 20


@pytest.fixture
async def rig(nats_url: str, tmp_path: Path) -> AsyncIterator[EmailRig]:
    async with email_rig(nats_url, tmp_path) as rig:
        yield rig


async def test_a_malformed_entry_takes_no_others_with_it(rig: EmailRig) -> None:
    rig.campaign.add_sent(3)
    campaign = rig.campaign

    def raw(number: object, **changes: object) -> dict[str, object]:
        return {
            "organisation_id": str(campaign.organisation_id),
            "campaign_id": str(campaign.campaign_id),
            "number": number,
            "attempt": 1,
            "fields": {"event": "delivered"},
            "time": 1_795_000_000.0,
            **changes,
        }

    entries = [
        raw(1),
        raw(2, fields={}),
        raw(2, fields={"event": 7}),
        raw(0),
        raw("2"),
        raw(2, organisation_id=7),
        raw(2, campaign_id=[]),
        7,
        [],
        None,
        {"organisation_id": str(campaign.organisation_id), "fields": {}, "time": 1},
        raw(3),
    ]
    connection = await nats.connect(rig.nats_url)
    try:
        with structlog.testing.capture_logs() as lines:
            await connection.jetstream().publish("outreach.inbox.email", orjson.dumps(entries))
            await rig.becomes(DELIVERED=2, SENDING=1)
            await rig.none_stored()
    finally:
        await connection.close()
    assert [(line["event"], line["entries"]) for line in lines] == [("inbox_entry_malformed", 10)]


async def test_slow_commits_do_not_bring_everything_again(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came again would be reported again, and make commits slower still."""
    monkeypatch.setattr(topology, "INBOX_ACK_WAIT_SECONDS", 4)
    monkeypatch.setattr(inbox_module, "INBOX_ACK_WAIT_SECONDS", 4)
    campaign = EmailCampaign()
    campaign.add_sent(10)
    async with email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        campaign.acknowledge.clear()
        begun = time.monotonic()
        for number in range(1, 11):
            assert await rig.post_events(rig.event("delivered", number)) == 204
        await eventually(lambda: time.monotonic() - begun > 6, 60, "longer than the limit")
        connection = await nats.connect(nats_url)
        try:
            info = await connection.jetstream().consumer_info("OUTREACH_INBOX", "email-inbox")
        finally:
            await connection.close()
        assert info.delivered is not None
        assert info.delivered.consumer_seq == 10, "each was delivered once"
        assert info.num_redelivered == 0
        campaign.acknowledge.set()
        await rig.becomes(DELIVERED=10)
        await rig.none_stored()
