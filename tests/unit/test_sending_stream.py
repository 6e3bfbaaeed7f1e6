"""Things that happen to a stream in the same turn of the event loop, as after a long pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import grpc.aio
import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.rpc.options import channel_options
from outreach.sending import stream as stream_module
from outreach.sending.journal import Journal
from outreach.sending.reporter import Reporter
from outreach.sending.stream import DeliveryStream
from outreach.vocabulary import Channel
from tests.campaign_double import TOKEN, CampaignDouble
from tests.waiting import eventually


@pytest.fixture
async def stream(tmp_path: Path) -> AsyncIterator[DeliveryStream]:
    campaign = CampaignDouble()
    campaign.acknowledge.clear()
    journal = Journal(tmp_path)
    async with (
        campaign.serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream = DeliveryStream(
            channel,
            (("authorization", f"Bearer {TOKEN}"),),
            Channel.SMS,
            journal,
            Reporter(journal, Channel.SMS),
        )
        running = asyncio.create_task(stream.run(), name="stream")
        await eventually(lambda: stream.is_connected, 60, "a stream")
        yield stream
        running.cancel()
        _, left = await asyncio.wait({running}, timeout=60)
        assert not left
    journal.close()


async def test_an_answer_in_the_moment_of_its_time_out_is_not_lost(
    stream: DeliveryStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages would be claimed by an instance that nobody could end any more."""
    monkeypatch.setattr(stream_module, "ANSWER_SECONDS_MAX", 3.0)
    connection = stream._require()
    monkeypatch.setattr(connection.outgoing, "put", _swallow)
    asking = asyncio.create_task(
        stream.claim(campaign_id=str(uuid4()), run=1, first=1, last=2, limit=2)
    )
    await eventually(lambda: connection.claims, 60, "asked")
    (claim_id,) = connection.claims
    asked_by = time.monotonic()
    result = delivery_pb2.ClaimResult(claim_id=claim_id)
    result.send_window.seconds = 10
    result.messages.add(number=1, attempt=1)
    loop = asyncio.get_running_loop()
    # due before the time-out, also when this took long; then the loop is kept busy until both are
    loop.call_later(0.5, stream._on_claim, connection, result)
    loop.call_soon(time.sleep, 3.5)
    claimed = await asking
    assert [message.number for message in claimed.result.messages] == [1]
    assert connection.instance.open == 1, "ours to report"
    assert claimed.deadline_seconds <= asked_by + 10, "counted from before it was asked"


@pytest.mark.parametrize("turns", range(8))
async def test_a_stream_that_breaks_as_its_sender_ends_keeps_it_from_nothing(
    stream: DeliveryStream, turns: int
) -> None:
    """A TaskGroup that is cancelled while a task of it fails raises the failure only."""
    (running,) = (task for task in asyncio.all_tasks() if task.get_name() == "stream")
    stream.renew()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=60)
    assert ended
    assert running.cancelled()


async def _swallow(request: delivery_pb2.DeliverRequest) -> None:
    """The request is lost on its way."""


async def test_a_stream_that_broke_is_opened_again_and_again(stream: DeliveryStream) -> None:
    """Seen: a failed TaskGroup of Python 3.11 leaves its task marked as cancelled; the sender sat there idle."""
    seen = {stream._require().instance}
    for _ in range(3):
        stream.renew()
        await eventually(
            lambda: stream.is_connected and stream._require().instance not in seen,
            60,
            "another stream",
        )
        seen.add(stream._require().instance)


def test_a_campaign_service_that_was_down_for_long_is_found_within_seconds() -> None:
    """Channel and stream wait one after the other, and sending has to go on 5 s after a restart."""
    backoff_ms = dict(channel_options())["grpc.max_reconnect_backoff_ms"]
    jitter = 1.2  # gRPC's
    assert jitter * backoff_ms / 1_000 + stream_module.RECONNECT_SECONDS_MAX <= 2.5
