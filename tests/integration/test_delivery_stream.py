"""The delivery stream over a real gRPC server and PostgreSQL: claims, reports, acknowledgements, and its ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import grpc.aio
import pytest
import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.rpc.channel import bearer
from outreach.rpc.errors import from_status
from outreach.v1 import channel_pb2, failure_reason_pb2
from outreach.vocabulary import MessageStatus
from services.campaign.delivery import servicer as stream_module
from services.campaign.delivery.claims import Claimed, Claims
from services.campaign.delivery.reports import Reports
from tests.campaign_data import running_campaign
from tests.delivery_rig import Rig, Sender, delivery_rig
from tests.gate import gate_before
from tests.waiting import eventually

S = MessageStatus


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[Rig]:
    async with delivery_rig(database_dsn) as rig:
        yield rig


def stream_tasks() -> list[Any]:
    """Tasks of streams that the server is serving."""
    return [task for task in asyncio.all_tasks() if "_Stream." in repr(task.get_coro())]


class HeldClaims(Claims):
    """Claims that wait for a permit, so that a test says when they happen."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self.permits = asyncio.Semaphore(0)
        self.waiting = 0
        self.waiting_most = 0

    async def claim(self, *arguments: Any) -> Claimed:
        self.waiting += 1
        self.waiting_most = max(self.waiting, self.waiting_most)
        try:
            await self.permits.acquire()
        finally:
            self.waiting -= 1
        return await self.claims.claim(*arguments)


async def test_hello_claim_report_acknowledge(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 30)
    sender = rig.open()
    assert (await sender.hello()).reports_max == stream_module.REPORTS_MAX
    claimed = await sender.claim(campaign, 10)
    assert claimed.state == pb.CLAIM_STATE_OPEN
    assert [message.number for message in claimed.messages] == list(range(1, 11))
    assert claimed.content_hash == "hash-1"
    assert claimed.send_window.ToMilliseconds() == 7_500
    claimed_by = await rig.pool.fetch("SELECT DISTINCT claimed_by FROM message WHERE status = 3")
    assert [row["claimed_by"] for row in claimed_by] == [sender.instance_id]
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, *range(1, 11))
    await sender.acked(1)
    assert set(list((await rig.statuses(campaign)).values())[:10]) == {S.SENT}
    rest = await sender.claim(campaign, 1_000)
    assert (rest.state, len(rest.messages)) == (pb.CLAIM_STATE_EXHAUSTED, 20)


async def test_an_acknowledgement_means_committed_and_they_come_in_order(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 600)
    sender = await rig.sender()
    await sender.claim(campaign, 600)
    for number in range(1, 601):
        await sender.report(campaign, pb.OUTCOME_ACCEPTED, number)
    known = 0
    while known < 600:
        ack = (await sender.read("ack")).ack.sequence
        assert ack > known
        known = ack
        committed = await rig.pool.fetchval("SELECT count(*) FROM message WHERE status = 4")
        assert committed >= known


async def test_a_sender_that_closes_its_side_is_answered_to_the_last(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 100)
    sender = await rig.sender()
    await sender.claim(campaign, 90)
    for number in range(1, 91):
        await sender.report(campaign, pb.OUTCOME_ACCEPTED, number)
    await sender.ask_claim(campaign, 10)
    await sender.call.done_writing()
    acked, claimed = 0, 0
    while (response := await sender.read_any()) is not grpc.aio.EOF:
        if response.WhichOneof("response") == "ack":
            acked = response.ack.sequence
        else:
            claimed = len(response.claim.messages)
    assert (acked, claimed) == (90, 10)
    assert await sender.call.code() is grpc.StatusCode.OK
    await eventually(lambda: not stream_tasks())


async def test_reports_of_a_deleted_campaign_are_acknowledged(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 1)
    await rig.pool.execute("DELETE FROM campaign")
    sender = await rig.sender()
    await sender.report(campaign, pb.OUTCOME_DELIVERED, 1)
    failure = pb.CampaignFailureReport(
        campaign_id=str(campaign.campaign_id),
        run=1,
        failure_reason=failure_reason_pb2.FAILURE_REASON_ACCOUNT_PROBLEM,
    )
    await sender.batch(campaign_failures=[failure])
    await sender.acked(2)


async def test_a_batch_that_comes_again_on_the_next_stream_changes_nothing(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 5)
    sender = await rig.sender()
    await sender.claim(campaign, 5)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 1, 2, 3)
    await sender.acked(1)
    sender.call.cancel()
    revision = await rig.pool.fetchval("SELECT revision FROM campaign")
    again = await rig.sender()
    await again.report(campaign, pb.OUTCOME_ACCEPTED, 1, 2, 3)
    await again.acked(1)
    assert await rig.pool.fetchval("SELECT revision FROM campaign") == revision


ID = str(UUID(int=7))
REFUSED: dict[str, tuple[dict[str, Any], grpc.StatusCode]] = {
    "claim-limit-too-large": (
        {"claim": {"campaign_id": ID, "run": 1, "first": 1, "last": 9, "limit": 1_001}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "claim-limit-none": (
        {"claim": {"campaign_id": ID, "run": 1, "first": 1, "last": 9}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "claim-range-empty": (
        {"claim": {"campaign_id": ID, "run": 1, "first": 9, "last": 8, "limit": 1}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "claim-of-no-run": (
        {"claim": {"campaign_id": ID, "first": 1, "last": 9, "limit": 1}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "claim-id": (
        {"claim": {"campaign_id": "x", "run": 1, "first": 1, "last": 9, "limit": 1}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "look-up-id": ({"look_up": {"campaign_id": ""}}, grpc.StatusCode.INVALID_ARGUMENT),
    "report-id": (
        {"reports": {"sequence": 2, "campaigns": [{"campaign_id": "x"}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "failure-id": (
        {"reports": {"sequence": 2, "campaign_failures": [{"campaign_id": "x"}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "instance-id": (
        {"reports": {"sequence": 2, "ended_instances": [{"instance_id": "x"}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "begun-not-pairs": (
        {
            "reports": {
                "sequence": 2,
                "ended_instances": [
                    {"instance_id": ID, "begun": [{"campaign_id": ID, "numbers": [1, 2]}]}
                ],
            }
        },
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "opt-out-id": (
        {"reports": {"sequence": 2, "opt_outs": [{"organisation_id": "x", "channel": 1}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "opt-out-channel": (
        {"reports": {"sequence": 2, "opt_outs": [{"organisation_id": ID}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "opt-out-time": (
        {
            "reports": {
                "sequence": 2,
                "opt_outs": [
                    {"organisation_id": ID, "channel": 1, "time": Timestamp(seconds=1 << 60)}
                ],
            }
        },
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "batch-too-large": (
        {
            "reports": {
                "sequence": 2,
                "campaigns": [{"campaign_id": ID, "reports": [{"number": 1}] * 501}],
            }
        },
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "sequence-repeated": ({"reports": {"sequence": 1}}, grpc.StatusCode.INVALID_ARGUMENT),
    "sequence-skipped": ({"reports": {"sequence": 3}}, grpc.StatusCode.INVALID_ARGUMENT),
    "nothing": ({}, grpc.StatusCode.INVALID_ARGUMENT),
    "hello-again": ({"hello": {"instance_id": ID}}, grpc.StatusCode.FAILED_PRECONDITION),
}


@pytest.mark.parametrize(("request_", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_can_not_be_is_refused_and_what_came_before_is_settled(
    rig: Rig, request_: dict[str, Any], code: grpc.StatusCode
) -> None:
    campaign = await running_campaign(rig.pool, 3)
    sender = await rig.sender()
    await sender.claim(campaign, 3)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 1, 2)
    await sender.write(**request_)
    await sender.acked(1)
    assert (await sender.end())[0] is code
    assert await rig.statuses(campaign) == {1: S.SENT, 2: S.SENT, 3: S.SENDING}
    assert not await rig.pool.fetchval("SELECT count(*) FROM suppression")
    await eventually(lambda: not stream_tasks())


@pytest.mark.parametrize("first", ["claim", "reports", "look_up"])
async def test_nothing_is_done_before_a_hello(rig: Rig, first: str) -> None:
    sender = rig.open()
    await sender.write(**{first: {}})
    assert (await sender.end())[0] is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_hello_with_a_bad_id_and_a_stream_without_the_token_are_refused(rig: Rig) -> None:
    sender = rig.open()
    await sender.write(hello=pb.Hello(instance_id="me"))
    assert (await sender.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
    stranger = Sender(rig.stub.Deliver(metadata=bearer("another token")))
    assert (await stranger.end())[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_full_batch_is_taken(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 500)
    sender = await rig.sender()
    await sender.claim(campaign, 500)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, *range(1, 501))
    await sender.acked(1)
    assert set((await rig.statuses(campaign)).values()) == {S.SENT}


async def test_claims_at_once_are_bounded_and_reports_go_on_beside_them(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 200)
    sender = await rig.sender()
    await sender.claim(campaign, 10)
    held = rig.servicer.claims = HeldClaims(rig.servicer.claims)
    for _ in range(stream_module.CLAIMS_AT_ONCE_MAX - 1):
        await sender.ask_claim(campaign, 10)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 1)
    await sender.acked(1)  # while the claims wait
    for _ in range(5):
        await sender.ask_claim(campaign, 10)
    await eventually(lambda: held.waiting == stream_module.CLAIMS_AT_ONCE_MAX)
    held.permits = _open_gate(held)
    claims = [(await sender.read("claim")).claim for _ in range(12)]
    assert {claim.claim_id for claim in claims} == set(range(2, 14))
    assert held.waiting_most == stream_module.CLAIMS_AT_ONCE_MAX
    numbers = [message.number for claim in claims for message in claim.messages]
    assert len(numbers) == len(set(numbers)) == 120


def _open_gate(held: HeldClaims) -> asyncio.Semaphore:
    """Let everything that waits, and all that comes, pass."""
    for _ in range(100):
        held.permits.release()
    return held.permits


async def test_reports_wait_for_the_database_and_are_committed_when_it_is_back(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "COMMIT_RETRY_SECONDS", 0.05)
    async with (
        gate_before(database_dsn) as (gate, dsn),
        delivery_rig(dsn) as rig,
    ):
        campaign = await running_campaign(rig.pool, 50)
        sender = await rig.sender()
        await sender.claim(campaign, 50)
        failures = _count_failures(rig.servicer.reports)
        async with gate.shut_for_a_while():
            for number in range(1, 51):
                await sender.report(campaign, pb.OUTCOME_ACCEPTED, number)
            await eventually(lambda: len(failures) >= 3)
        await sender.acked(50)
        assert set((await rig.statuses(campaign)).values()) == {S.SENT}


def _count_failures(reports: Reports) -> list[BaseException]:
    """What `apply` raises from now on."""
    failures: list[BaseException] = []
    apply: Callable[[Any], Awaitable[None]] = reports.apply

    async def counted(batches: Any) -> None:
        try:
            await apply(batches)
        except BaseException as error:
            failures.append(error)
            raise

    reports.apply = counted  # type: ignore[method-assign] # the real one, listened to
    return failures


async def test_a_claim_that_may_have_been_committed_ends_the_stream(database_dsn: str) -> None:
    async with (
        gate_before(database_dsn) as (gate, dsn),
        delivery_rig(dsn) as rig,
    ):
        campaign = await running_campaign(rig.pool, 5)
        sender = await rig.sender()
        async with gate.shut_for_a_while():
            await sender.ask_claim(campaign, 5)
            code, details = await sender.end()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "STORE_UNAVAILABLE" in details
        await eventually(lambda: not stream_tasks())


async def test_a_commit_that_hides_its_cancellation_does_not_keep_the_stream(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen after a kill of PostgreSQL: asyncpg failed to end the statement, and the stream hung."""
    campaign = await running_campaign(rig.pool, 2)
    sender = await rig.sender()
    await sender.claim(campaign, 1)
    committing = asyncio.Event()

    async def hides(batches: Any) -> None:
        committing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise asyncpg.InternalClientError("cannot switch to state 12; …") from None

    async def fails(*claim: Any) -> Claimed:
        raise asyncpg.ConnectionDoesNotExistError("killed")

    monkeypatch.setattr(rig.servicer.reports, "apply", hides)
    monkeypatch.setattr(rig.servicer.claims, "claim", fails)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 1)
    await committing.wait()
    await sender.ask_claim(campaign, 1)
    code, _ = await sender.end()
    assert code is grpc.StatusCode.UNAVAILABLE
    await eventually(lambda: not stream_tasks())


async def test_a_report_that_the_database_refuses_is_set_aside_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = rig.servicer.reports.apply

    async def refuses(batches: list[pb.ReportBatch]) -> None:
        if "poison" in str(batches):
            raise asyncpg.DataError("refused")
        await apply(batches)

    monkeypatch.setattr(rig.servicer.reports, "apply", refuses)
    campaign = await running_campaign(rig.pool, 3)
    sender = await rig.sender()
    await sender.claim(campaign, 3)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 1)
    poison = pb.Report(
        number=2, attempt=1, outcome=pb.OUTCOME_ACCEPTED, provider_message_id="poison"
    )
    part = pb.CampaignReports(campaign_id=str(campaign.campaign_id), reports=[poison])
    await sender.batch(campaigns=[part])
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 3)
    await sender.acked(3)
    assert await rig.statuses(campaign) == {1: S.SENT, 2: S.SENDING, 3: S.SENT}


async def test_a_draining_service_ends_every_stream_also_a_busy_one(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 10)
    idle, busy = await rig.sender(), await rig.sender()
    held = rig.servicer.claims = HeldClaims(rig.servicer.claims)
    await busy.ask_claim(campaign, 5)
    await eventually(lambda: held.waiting == 1)
    with structlog.testing.capture_logs() as lines:
        rig.servicer.drain()
        late = rig.open()
        for sender in (idle, busy, late):
            code, details = await sender.end()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "SERVER_DRAINING" in details
        await eventually(lambda: not stream_tasks())
        # The line comes after the status that the sender has seen.
        await eventually(lambda: [line["event"] for line in lines].count("call") == 3)
        calls = [line for line in lines if line["event"] == "call"]
    assert [line["outcome"] for line in calls] == ["UNAVAILABLE"] * 3


async def test_a_sender_that_goes_away_leaves_no_task(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 10)
    held = rig.servicer.claims = HeldClaims(rig.servicer.claims)
    sender = await rig.sender()
    await sender.ask_claim(campaign, 5)
    await eventually(lambda: held.waiting == 1)
    assert stream_tasks()
    sender.call.cancel()
    await eventually(lambda: not stream_tasks())
    assert held.waiting == 0


async def test_a_sender_that_does_not_read_is_cut_off(database_dsn: str) -> None:
    async with delivery_rig(database_dsn, write_seconds_max=2.0) as rig:
        campaign = await running_campaign(rig.pool, 5)
        await rig.pool.execute("UPDATE contact SET variables = ARRAY[repeat('x', 100000)]")
        sender = await rig.sender()
        for _ in range(100):
            await rig.pool.execute("UPDATE message SET status = 2")
            await rig.pool.execute("UPDATE campaign SET queued = 5, sending = 0")
            before = await rig.pool.fetchval("SELECT revision FROM campaign")
            await sender.ask_claim(campaign, 5)

            async def claimed(before: int = before) -> bool:
                revision = await rig.pool.fetchval("SELECT revision FROM campaign")
                return bool(revision > before or not stream_tasks())

            await eventually(claimed)
            if not stream_tasks():
                break
        await eventually(lambda: not stream_tasks(), what="the stream is ended")
        assert (await sender.end())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_unknown_attempts_are_leased_over_the_stream(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 3)
    sender = await rig.sender()
    await sender.claim(campaign, 3)
    await sender.report(campaign, pb.OUTCOME_UNKNOWN, 2)
    await sender.acked(1)
    await sender.write(
        look_up=pb.LookUpRequest(look_up_id=5, campaign_id=str(campaign.campaign_id), limit=10)
    )
    result = (await sender.read("look_up")).look_up
    assert (result.look_up_id, result.content_hash) == (5, "hash-1")
    assert [(each.message.number, each.message.attempt) for each in result.attempts] == [(2, 1)]


async def test_content_and_account_are_refused_by_name(rig: Rig) -> None:
    async def refused(call: Any) -> OutreachError:
        with pytest.raises(grpc.aio.AioRpcError) as info:
            await call
        return from_status(info.value)

    content, account = rig.stub.GetCampaignContent, rig.stub.GetProviderAccount
    for answer, reason in (
        (content(pb.GetCampaignContentRequest(campaign_id="x"), metadata=rig.metadata), "id"),
        (content(pb.GetCampaignContentRequest(campaign_id=ID), metadata=rig.metadata), "unknown"),
        (account(pb.GetProviderAccountRequest(organisation_id="x"), metadata=rig.metadata), "id"),
        (
            account(
                pb.GetProviderAccountRequest(organisation_id=ID, channel=channel_pb2.CHANNEL_SMS),
                metadata=rig.metadata,
            ),
            "account",
        ),
    ):
        expected = {
            "id": "INVALID_REQUEST",
            "unknown": "CAMPAIGN_NOT_FOUND",
            "account": "CHANNEL_NOT_CONFIGURED",
        }
        assert (await refused(answer)).reason == expected[reason]
