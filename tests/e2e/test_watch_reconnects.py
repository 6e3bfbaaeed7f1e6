"""Watchers that lose their connection again and again see what one sees that never does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc.aio
import pytest

from outreach.client import CallError, OutreachClient
from outreach.local.stack import LocalStack
from outreach.rpc.channel import bearer, create_channel
from outreach.v1.message_pb2 import MESSAGE_STATUS_QUEUED, MESSAGE_STATUS_WAITING, MessageStatus
from outreach.v1.watch_pb2 import CampaignChanges, WatchCampaignRequest, WatchCampaignResponse
from outreach.v1.watch_pb2_grpc import WatchServiceStub
from services.sandbox.knobs import Knobs
from tests.campaign_history import History, counts_of, recipients
from tests.tcp_cuts import CuttableRelay
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

PREFIX = "MESSAGE_STATUS_"
CUTS = 10
CATCH_UP_SECONDS_MAX = 300.0

# Receipts spread over seconds, many of them after the message was assumed delivered.
KNOBS = Knobs(
    latency_ms=100,
    failed_codes={30003: 0.1},
    rejected_codes={21408: 0.02},
    callback_delay_ms_min=500,
    callback_delay_ms_max=18_000,
    callback_reordered_share=0.1,
)


@dataclass
class Told:
    """What a watcher was told, held against the promises of watch.proto as it comes."""

    total: int
    revision: int = -1
    resume_token: str = ""
    cuts: int = 0
    #: Status by number; before the run all wait.
    states: dict[int, int] = field(default_factory=dict)
    #: Revision, number, status, failure reason, attempt.
    changes: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def take(self, response: WatchCampaignResponse) -> None:
        event = response.WhichOneof("event")
        if event == "snapshot":
            assert self.revision == -1, "a second snapshot"
            assert counts_of(response.snapshot.counts) == {"waiting": self.total}
            self.states = dict.fromkeys(range(1, self.total + 1), MESSAGE_STATUS_WAITING)
        elif event == "changes":
            assert response.revision > self.revision, "told before, or out of order"
            self._replay(response.changes, response.revision)
        else:
            assert response.revision == self.revision
        self.revision = response.revision
        assert response.resume_token
        self.resume_token = response.resume_token

    def _replay(self, changes: CampaignChanges, revision: int) -> None:
        if not changes.counts.waiting:  # the run began: told by the counts, for all at once
            for number, status in self.states.items():
                if status == MESSAGE_STATUS_WAITING:
                    self.states[number] = MESSAGE_STATUS_QUEUED
        before = self.revision
        for change in changes.messages:
            assert before <= change.revision <= revision, "out of order"
            assert change.revision > self.revision, "told before"
            before = change.revision
            assert self.states[change.number] != change.status
            self.states[change.number] = change.status
            self.changes.append(
                (
                    *(change.revision, change.number, change.status),
                    *(change.failure_reason, change.attempt),
                )
            )
        # Complete: whatever is missing so far would be missing from the counts.
        replayed = Counter(
            MessageStatus.Name(MessageStatus.ValueType(status)).removeprefix(PREFIX).lower()
            for status in self.states.values()
        )
        assert counts_of(changes.counts) == replayed


async def watch_with_tokens(stack: LocalStack, campaign_id: str, told: Told) -> None:
    """The bare stub: leaves after some responses, comes back with the last token it read."""
    chance = random.Random("tokens")
    async with create_channel(stack.address) as channel:
        stub = WatchServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        while True:
            call = stub.WatchCampaign(
                WatchCampaignRequest(
                    campaign_id=campaign_id, resume_token=told.resume_token, include_messages=True
                ),
                metadata=bearer(stack.api_key),
            )
            left = chance.randint(1, 3) if told.cuts < CUTS else None
            async for response in _responses(call):
                told.take(response)
                if left is not None and (left := left - 1) == 0:
                    break
            call.cancel()
            told.cuts += 1


async def _responses(
    call: grpc.aio.UnaryStreamCall[WatchCampaignRequest, WatchCampaignResponse],
) -> AsyncIterator[WatchCampaignResponse]:
    while isinstance(response := await call.read(), WatchCampaignResponse):
        yield response


async def watch_through(relay: CuttableRelay, api_key: str, campaign_id: str, told: Told) -> None:
    """The client library, whose connections are cut; it mends the stream by itself."""
    chance = random.Random("cuts")

    def count(_: CallError) -> None:
        told.cuts += 1

    async with OutreachClient(relay.address, api_key) as client:
        watch = client.watch_campaign(campaign_id, include_messages=True, on_reconnect=count)
        left = 1
        async with aclosing(watch):
            async for response in watch:
                told.take(response)
                left -= 1
                if left <= 0 and told.cuts < CUTS:
                    relay.cut()
                    left = chance.randint(1, 3)


async def watch_in_peace(client: OutreachClient, campaign_id: str, told: Told) -> None:
    def never(error: CallError) -> None:
        raise AssertionError(f"nobody cut this one: {error}")

    watch = client.watch_campaign(campaign_id, include_messages=True, on_reconnect=never)
    async with aclosing(watch):
        async for response in watch:
            told.take(response)


async def test_watchers_that_are_cut_ten_times_see_every_change_once(stack: LocalStack) -> None:
    async with (
        stack.client() as client,
        stack.sandbox_client() as sandbox,
        CuttableRelay.to(stack.address) as relay,
    ):
        history = History(client, sandbox, KNOBS, recipients(211, 2_000))
        await history.prepare()
        campaign_id = history.campaign_id
        peaceful, resuming, cut = watchers = [Told(history.total) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(watch_in_peace(client, campaign_id, peaceful)),
                tasks.create_task(watch_with_tokens(stack, campaign_id, resuming)),
                tasks.create_task(watch_through(relay, stack.api_key, campaign_id, cut)),
            ]
            await eventually(
                lambda: all(told.states for told in watchers), 120, "all have the snapshot"
            )
            await history.run()
            campaign = await history.end()
            await eventually(
                lambda: all(told.revision == campaign.revision for told in watchers),
                CATCH_UP_SECONDS_MAX,
                "all were told the last revision",
            )
            for task in watching:
                task.cancel()
        assert resuming.cuts == CUTS
        assert cut.cuts >= CUTS, "a connection may be lost again before anything came"
        ends = {message.number: message.status for message in await history.messages()}
        for told in watchers:
            assert told.states == ends
            assert len(set(told.changes)) == len(told.changes)
            assert told.changes == peaceful.changes
