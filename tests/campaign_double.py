"""The campaign service as a sender sees it: a real gRPC server with its messages in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import grpc
import grpc.aio

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.v1 import campaign_pb2, channel_pb2
from outreach.vocabulary import Outcome

Deliver = grpc.aio.ServicerContext[delivery_pb2.DeliverRequest, delivery_pb2.DeliverResponse]

ATTACHMENT_CHUNK_BYTES = 1024 * 1024
TOKEN = "internal-token-of-the-tests-0123456789"


@dataclass
class Message:
    recipient: str
    values: list[str]
    status: str = "QUEUED"
    attempt: int = 0
    claimed_by: str = ""
    claim_time: datetime | None = None
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    last: delivery_pb2.Report | None = None
    is_retry: bool = False


_STATUS_OF = {
    Outcome.ACCEPTED: "SENT",
    Outcome.REJECTED: "FAILED",
    Outcome.HANDED_BACK: "QUEUED",
    Outcome.UNKNOWN: "UNKNOWN",
    Outcome.DELIVERED: "DELIVERED",
    Outcome.FAILED: "FAILED",
    Outcome.OPTED_OUT: "OPTED_OUT",
    Outcome.DEFERRED: "RETRYING",
}
_RANK = {
    "QUEUED": 0,
    "SENDING": 1,
    "UNKNOWN": 2,
    "SENT": 3,
    "RETRYING": 4,
    "FAILED": 5,
    "OPTED_OUT": 5,
    "DELIVERED": 5,
}


def hash_of(recipient: str) -> bytes:
    """As the campaign service's, but without its key."""
    return hashlib.sha256(recipient.encode()).digest()[:16]


class CampaignDouble(delivery_pb2_grpc.DeliveryServiceServicer):
    """One organisation, one running SMS campaign. Everything a test wants to see is an attribute.

    `window_seconds`: of a claim; by default longer than any test, as what it is too short for comes back.
    """

    def __init__(self, body: str = "Hello {{name}}", window_seconds: int = 300) -> None:
        self.organisation_id = uuid4()
        self.campaign_id = uuid4()
        self.body = body
        self.window_seconds = window_seconds
        self.skip_incomplete = False
        self.account_sid = "AC5a17d0b0c5a17d0b0c5a17d0b0c5a17d"
        self.auth_token = "5a17d0b0c5a17d0b0c5a17d0b0c5a17d"
        self.messaging_service_sid = "MG5a17d0b0c5a17d0b0c5a17d0b0c5a17d"
        self.messages: dict[int, Message] = {}
        self.batches: list[delivery_pb2.ReportBatch] = []
        self.opt_outs: list[delivery_pb2.OptOut] = []
        self.failures: list[delivery_pb2.CampaignFailureReport] = []
        self.ended: list[delivery_pb2.EndedInstance] = []
        self.instances: list[str] = []
        self.claims = 0
        self.content_calls = 0
        self.account_calls = 0
        self.has_account = True
        self.acknowledge = asyncio.Event()
        self.acknowledge.set()
        self.lose_claim_answers = 0
        #: Nothing is granted any more.
        self.stopped = False
        self.unknown_due: list[delivery_pb2.UnknownAttempt] = []
        self.unknown_stays_due = False
        self.keep_batches = True
        self.attachments: dict[str, bytes] = {}
        self.attachment_calls: list[str] = []
        self.account_checks: list[delivery_pb2.ReportAccountCheckRequest] = []
        self._cut = asyncio.Event()

    def add(self, count: int, *, prefix: str = "+4179000") -> None:
        first = len(self.messages) + 1
        for number in range(first, first + count):
            self.messages[number] = Message(f"{prefix}{number:04d}", [f"name {number}"])

    def statuses(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for message in self.messages.values():
            counts[message.status] = counts.get(message.status, 0) + 1
        return counts

    def cut_streams(self) -> None:
        """Every open stream breaks."""
        self._cut.set()
        self._cut = asyncio.Event()

    # the service

    async def Deliver(  # noqa: N802 - the RPC's name
        self, request_iterator: AsyncIterator[delivery_pb2.DeliverRequest], context: Deliver
    ) -> AsyncIterator[delivery_pb2.DeliverResponse]:
        assert dict(context.invocation_metadata() or ())["authorization"] == f"Bearer {TOKEN}"
        hello = await anext(request_iterator)
        instance = hello.hello.instance_id
        self.instances.append(instance)
        yield delivery_pb2.DeliverResponse(welcome=delivery_pb2.Welcome(reports_max=500))
        cut = self._cut
        answers: asyncio.Queue[delivery_pb2.DeliverResponse] = asyncio.Queue()
        reading = asyncio.create_task(self._read(request_iterator, instance, answers))
        cutting = asyncio.create_task(cut.wait())
        try:
            while True:
                getting = asyncio.create_task(answers.get())
                done, _ = await asyncio.wait(
                    (getting, cutting, reading), return_when=asyncio.FIRST_COMPLETED
                )
                if getting not in done:
                    getting.cancel()
                    break
                yield getting.result()
        finally:
            reading.cancel()
            cutting.cancel()
        if reading.done() and not reading.cancelled() and reading.exception():
            raise AssertionError from reading.exception()
        if cut.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")

    async def _read(
        self,
        requests: AsyncIterator[delivery_pb2.DeliverRequest],
        instance: str,
        answers: asyncio.Queue[delivery_pb2.DeliverResponse],
    ) -> None:
        expected = 1
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "claim":
                result = self._claim(request.claim, instance)
                if self.lose_claim_answers:
                    self.lose_claim_answers -= 1
                    self.cut_streams()
                    return
                await answers.put(delivery_pb2.DeliverResponse(claim=result))
            elif kind == "reports":
                assert request.reports.sequence == expected, "numbered 1, 2, 3… on a stream"
                expected += 1
                await self.acknowledge.wait()
                self._commit(request.reports)
                ack = delivery_pb2.ReportAck(sequence=request.reports.sequence)
                await answers.put(delivery_pb2.DeliverResponse(ack=ack))
            elif kind == "look_up":
                due = self.unknown_due
                if not self.unknown_stays_due:
                    self.unknown_due = []
                await answers.put(
                    delivery_pb2.DeliverResponse(
                        look_up=delivery_pb2.LookUpResult(
                            look_up_id=request.look_up.look_up_id,
                            attempts=due,
                            content_hash="hash",
                        )
                    )
                )

    def _claim(self, request: delivery_pb2.ClaimRequest, instance: str) -> delivery_pb2.ClaimResult:
        self.claims += 1
        result = delivery_pb2.ClaimResult(claim_id=request.claim_id, content_hash="hash")
        result.send_window.seconds = self.window_seconds
        if self.failures or self.stopped:
            result.state = delivery_pb2.CLAIM_STATE_NOT_RUNNING
            return result
        assert request.campaign_id == str(self.campaign_id)
        result.state = delivery_pb2.CLAIM_STATE_EXHAUSTED
        for number in range(request.first, request.last + 1):
            message = self.messages.get(number)
            if message is None or message.status != "QUEUED":
                continue
            if len(result.messages) == request.limit:
                result.state = delivery_pb2.CLAIM_STATE_OPEN
                break
            message.status = "SENDING"
            message.attempt += 1
            message.claimed_by = instance
            message.claim_time = datetime.now(UTC)
            result.messages.add(
                number=number,
                attempt=message.attempt,
                recipient=message.recipient,
                values=message.values,
                recipient_hash=hash_of(message.recipient),
                is_retry=message.is_retry,
            )
        return result

    def _commit(self, batch: delivery_pb2.ReportBatch) -> None:
        if self.keep_batches:
            self.batches.append(batch)
        for campaign in batch.campaigns:
            assert campaign.campaign_id == str(self.campaign_id)
            seen = {(report.number, report.attempt) for report in campaign.reports}
            assert len(seen) == len(campaign.reports), "an attempt twice in one batch"
            for report in campaign.reports:
                self._report(report)
        self.opt_outs.extend(batch.opt_outs)
        self.failures.extend(batch.campaign_failures)
        for ended in batch.ended_instances:
            self._end(ended)

    def _report(self, report: delivery_pb2.Report) -> None:
        message = self.messages.get(report.number)
        if message is None:
            return
        outcome = Outcome(report.outcome)
        message.outcomes.append((report.attempt, outcome))
        if outcome is Outcome.NOT_FOUND or report.attempt != message.attempt:
            return
        status = _STATUS_OF[outcome]
        if outcome is Outcome.HANDED_BACK:
            if message.status == "SENDING":
                message.status = status
        elif _RANK[status] > _RANK[message.status]:
            message.status = status
            message.last = report

    def _end(self, ended: delivery_pb2.EndedInstance) -> None:
        self.ended.append(ended)
        begun = {
            (number, attempt)
            for campaign in ended.begun
            for number, attempt in zip(campaign.numbers, campaign.attempts, strict=True)
        }
        for number, message in self.messages.items():
            if message.claimed_by == ended.instance_id and message.status == "SENDING":
                unknown = (number, message.attempt) in begun
                message.status = "UNKNOWN" if unknown else "QUEUED"

    async def GetCampaignContent(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.GetCampaignContentRequest,
        context: grpc.aio.ServicerContext[
            delivery_pb2.GetCampaignContentRequest, delivery_pb2.CampaignContent
        ],
    ) -> delivery_pb2.CampaignContent:
        self.content_calls += 1
        content = self.content()
        content.content_hash = request.content_hash
        return content

    def content(self) -> delivery_pb2.CampaignContent:
        """What the campaign sends."""
        return delivery_pb2.CampaignContent(
            campaign_id=str(self.campaign_id),
            organisation_id=str(self.organisation_id),
            channel=channel_pb2.CHANNEL_SMS,
            sms=campaign_pb2.SmsContent(body=self.body),
            variable_names=["name"],
            missing_variable_policy=self.missing_variable_policy,
        )

    @property
    def missing_variable_policy(self) -> campaign_pb2.MissingVariablePolicy.ValueType:
        if self.skip_incomplete:
            return campaign_pb2.MISSING_VARIABLE_POLICY_SKIP
        return campaign_pb2.MISSING_VARIABLE_POLICY_KEEP_PLACEHOLDER

    async def GetProviderAccount(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.GetProviderAccountRequest,
        context: grpc.aio.ServicerContext[
            delivery_pb2.GetProviderAccountRequest, delivery_pb2.ProviderAccount
        ],
    ) -> delivery_pb2.ProviderAccount:
        self.account_calls += 1
        if not self.has_account or UUID(request.organisation_id) != self.organisation_id:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no account")
        return self.account()

    def account(self) -> delivery_pb2.ProviderAccount:
        """How the organisation reaches its provider."""
        return delivery_pb2.ProviderAccount(
            organisation_id=str(self.organisation_id),
            twilio=delivery_pb2.TwilioAccount(
                account_sid=self.account_sid,
                auth_token=self.auth_token,
                sender=campaign_pb2.SmsSender(messaging_service_sid=self.messaging_service_sid),
            ),
        )

    async def GetAttachment(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.GetAttachmentRequest,
        context: grpc.aio.ServicerContext[
            delivery_pb2.GetAttachmentRequest, delivery_pb2.GetAttachmentResponse
        ],
    ) -> AsyncIterator[delivery_pb2.GetAttachmentResponse]:
        self.attachment_calls.append(request.attachment_id)
        assert request.campaign_id == str(self.campaign_id)
        content = self.attachments.get(request.attachment_id)
        if content is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such attachment")
        for start in range(0, len(content), ATTACHMENT_CHUNK_BYTES):
            chunk = content[start : start + ATTACHMENT_CHUNK_BYTES]
            yield delivery_pb2.GetAttachmentResponse(chunk=chunk)

    async def ListProviderAccounts(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.ListProviderAccountsRequest,
        context: grpc.aio.ServicerContext[
            delivery_pb2.ListProviderAccountsRequest, delivery_pb2.ListProviderAccountsResponse
        ],
    ) -> delivery_pb2.ListProviderAccountsResponse:
        organisations = [str(self.organisation_id)] if self.has_account else []
        return delivery_pb2.ListProviderAccountsResponse(organisation_ids=organisations)

    async def ReportAccountCheck(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.ReportAccountCheckRequest,
        context: grpc.aio.ServicerContext[
            delivery_pb2.ReportAccountCheckRequest, delivery_pb2.ReportAccountCheckResponse
        ],
    ) -> delivery_pb2.ReportAccountCheckResponse:
        self.account_checks.append(request)
        return delivery_pb2.ReportAccountCheckResponse()

    async def GetRecipient(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.GetRecipientRequest,
        context: grpc.aio.ServicerContext[
            delivery_pb2.GetRecipientRequest, delivery_pb2.GetRecipientResponse
        ],
    ) -> delivery_pb2.GetRecipientResponse:
        message = self.messages.get(request.number)
        if message is None or request.campaign_id != str(self.campaign_id):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such message")
        return delivery_pb2.GetRecipientResponse(recipient=message.recipient)

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback; yields `host:port`."""
        server = grpc.aio.server()
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(self, server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:
            yield f"127.0.0.1:{bound}"
        finally:
            await server.stop(None)
