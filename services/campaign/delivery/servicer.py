"""DeliveryService: one bidirectional stream a sender. Claims run beside each other, reports commit in order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from outreach.cancellation import raise_if_cancelled
from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.postgres.outage import STORE_ERRORS, is_outage
from outreach.vocabulary import Channel
from services.campaign.delivery.attachments import write_attachment
from services.campaign.delivery.claims import CLAIM_MESSAGES_MAX, Claims
from services.campaign.delivery.content import Contents
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.opt_outs import opt_out_fault
from services.campaign.delivery.reports import Reports
from services.campaign.rpc.fields import Fields

log = structlog.get_logger()

#: Reports in one batch; told to the sender in Welcome.
REPORTS_MAX = 500
#: Batches of a stream that wait for a commit; beyond that the stream is not read.
BATCHES_WAITING_MAX = 64
#: Batches committed together.
BATCHES_TOGETHER_MAX = 8
#: Claims and look-ups of a stream that run at the same time; beyond that the stream is not read.
CLAIMS_AT_ONCE_MAX = 8
#: Attempts leased by one request.
LOOK_UPS_MAX = 100
RESPONSES_WAITING_MAX = 256
#: A sender that does not take a response for so long is cut off; claims that it has not heard of are past their window.
WRITE_SECONDS_MAX = 30.0
#: Of what a sender found out about an account.
SENDERS_MAX = 5_000
SENDER_CHARS_MAX = 254
CHECK_FAULT_CHARS_MAX = 500
#: A commit that fails is repeated after this; the sender keeps its reports until it is acknowledged.
COMMIT_RETRY_SECONDS = 0.5


_Context = grpc.aio.ServicerContext[Any, Any]


class _StreamEnds(Exception):
    """Ends the stream with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    """Serves the senders. Holds no state that matters: a lost stream loses nothing."""

    def __init__(
        self,
        *,
        claims: Claims,
        reports: Reports,
        look_ups: LookUps,
        contents: Contents,
        send_window_seconds: float,
        write_seconds_max: float = WRITE_SECONDS_MAX,
    ) -> None:
        self.claims = claims
        self.reports = reports
        self.look_ups = look_ups
        self._contents = contents
        self.write_seconds_max = write_seconds_max
        self.send_window = Duration()
        self.send_window.FromMilliseconds(round(send_window_seconds * 1000))
        self.draining = asyncio.Event()

    def drain(self) -> None:
        """End every stream with UNAVAILABLE; the senders come again, to another replica or to this one restarted."""
        self.draining.set()

    # A coroutine that writes, as grpc.aio also serves it: claims, commits and answers run beside each other.
    async def Deliver(  # type: ignore[override] # the stubs know generators only
        self, request_iterator: AsyncIterator[delivery_pb2.DeliverRequest], context: _Context
    ) -> None:
        """See delivery.proto."""
        stream = _Stream(self, context)
        try:
            await stream.run(request_iterator)
        except* _StreamEnds as group:
            ends = group.exceptions[0]
            while isinstance(ends, BaseExceptionGroup):
                ends = ends.exceptions[0]
            assert isinstance(ends, _StreamEnds)
            failure: _StreamEnds | None = ends
        else:
            failure = None
        if failure is not None:
            log.warning("delivery_stream_ended", code=failure.code.name, why=failure.text)
            await context.abort(failure.code, failure.text)

    async def GetCampaignContent(
        self, request: delivery_pb2.GetCampaignContentRequest, context: _Context
    ) -> delivery_pb2.CampaignContent:
        """See delivery.proto."""
        fields = Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        fields.check()
        return await self._contents.campaign_content(campaign_id)

    async def GetProviderAccount(
        self, request: delivery_pb2.GetProviderAccountRequest, context: _Context
    ) -> delivery_pb2.ProviderAccount:
        """See delivery.proto."""
        fields = Fields()
        organisation_id = fields.uuid("organisation_id", request.organisation_id)
        channel = fields.choice("channel", request.channel, Channel, None)
        fields.check()
        return await self._contents.provider_account(organisation_id, channel)

    async def ListProviderAccounts(
        self, request: delivery_pb2.ListProviderAccountsRequest, context: _Context
    ) -> delivery_pb2.ListProviderAccountsResponse:
        """See delivery.proto."""
        fields = Fields()
        channel = fields.choice("channel", request.channel, Channel, None)
        fields.check()
        return await self._contents.provider_accounts(channel)

    async def ReportAccountCheck(
        self, request: delivery_pb2.ReportAccountCheckRequest, context: _Context
    ) -> delivery_pb2.ReportAccountCheckResponse:
        """See delivery.proto."""
        fields = Fields()
        organisation_id = fields.uuid("organisation_id", request.organisation_id)
        channel = fields.choice("channel", request.channel, Channel, None)
        addresses = _names(fields, "sender_addresses", request.sender_addresses)
        domains = _names(fields, "sender_domains", request.sender_domains)
        fields.check()
        # Partly the provider's words, so it is cut to what can be stored.
        fault = request.fault.replace("\0", "")[:CHECK_FAULT_CHARS_MAX]
        await self._contents.record_check(
            organisation_id,
            channel,
            addresses,
            domains,
            fault,
            senders_unknown=request.senders_unknown,
        )
        return delivery_pb2.ReportAccountCheckResponse()

    async def GetRecipient(
        self, request: delivery_pb2.GetRecipientRequest, context: _Context
    ) -> delivery_pb2.GetRecipientResponse:
        """See delivery.proto."""
        fields = Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        fields.check()
        recipient = await self._contents.recipient(campaign_id, request.number)
        return delivery_pb2.GetRecipientResponse(recipient=recipient)

    # A coroutine, as Deliver is: it is told at once when the sender goes away.
    async def GetAttachment(  # type: ignore[override] # the stubs know generators only
        self, request: delivery_pb2.GetAttachmentRequest, context: _Context
    ) -> None:
        """See delivery.proto."""
        fields = Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        attachment_id = fields.uuid("attachment_id", request.attachment_id)
        fields.check()
        pieces = self._contents.attachment_pieces(campaign_id, attachment_id)
        await write_attachment(context, pieces, write_seconds_max=self.write_seconds_max)


class _Stream:
    """The tasks of one stream: reader, committer, writer, and one a claim."""

    def __init__(self, servicer: DeliveryServicer, context: _Context) -> None:
        self._servicer = servicer
        self._context = context
        self._batches: asyncio.Queue[delivery_pb2.ReportBatch | None] = asyncio.Queue(
            BATCHES_WAITING_MAX
        )
        self._responses: asyncio.Queue[delivery_pb2.DeliverResponse | None] = asyncio.Queue(
            RESPONSES_WAITING_MAX
        )
        self._claims_at_once = asyncio.Semaphore(CLAIMS_AT_ONCE_MAX)
        self._instance_id: UUID | None = None
        #: Of the latest batch.
        self._sequence = 0

    async def run(self, requests: AsyncIterator[delivery_pb2.DeliverRequest]) -> None:
        """Until the sender closes its side, the stream breaks, or the service drains."""
        async with asyncio.TaskGroup() as all_tasks:
            writer = all_tasks.create_task(self._write())
            drain = all_tasks.create_task(self._end_on_drain())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._commit())
                refusal = await self._read(requests, tasks)
                await self._batches.put(None)
            await self._responses.put(None)
            await writer
            drain.cancel()
        if refusal is not None:
            raise refusal

    async def _end_on_drain(self) -> None:
        await self._servicer.draining.wait()
        raise _StreamEnds(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING: connect again")

    async def _read(
        self, requests: AsyncIterator[delivery_pb2.DeliverRequest], tasks: asyncio.TaskGroup
    ) -> _StreamEnds | None:
        """Until the sender closes its side (None), or asks something that is refused (why).

        What came before is settled and answered all the same: the sender would send it again, with the same end.
        """
        try:
            async for request in requests:
                await self._accept(request, tasks)
        except _StreamEnds as refusal:
            return refusal
        return None

    async def _accept(self, request: delivery_pb2.DeliverRequest, tasks: asyncio.TaskGroup) -> None:
        kind = request.WhichOneof("request")
        if (kind == "hello") != (self._instance_id is None):
            raise _StreamEnds(
                grpc.StatusCode.FAILED_PRECONDITION, "the first request is a Hello, and no other is"
            )
        if kind == "hello":
            self._instance_id = _uuid(request.hello.instance_id)
            welcome = delivery_pb2.Welcome(reports_max=REPORTS_MAX)
            await self._responses.put(delivery_pb2.DeliverResponse(welcome=welcome))
        elif kind == "reports":
            self._sequence += 1
            _check_batch(request.reports, self._sequence)
            await self._batches.put(request.reports)
        elif kind == "claim" and self._instance_id is not None:
            campaign_id = _check_claim(request.claim)
            await self._claims_at_once.acquire()
            tasks.create_task(self._claim(self._instance_id, campaign_id, request.claim))
        elif kind == "look_up":
            campaign_id = _uuid(request.look_up.campaign_id)
            await self._claims_at_once.acquire()
            tasks.create_task(self._look_up(campaign_id, request.look_up))
        else:
            raise _malformed("an unknown request")

    async def _claim(
        self, instance_id: UUID, campaign_id: UUID, request: delivery_pb2.ClaimRequest
    ) -> None:
        try:
            claimed = await self._servicer.claims.claim(
                instance_id, campaign_id, request.run, request.first, request.last, request.limit
            )
        except STORE_ERRORS as error:
            # It may have been committed. Ending the stream makes the sender end this instance, and that hands back
            # whatever it never heard of.
            log.warning("claim_failed", error=type(error).__name__, campaign_id=request.campaign_id)
            raise _StreamEnds(
                grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE: connect again"
            ) from error
        finally:
            self._claims_at_once.release()
        result = delivery_pb2.ClaimResult(
            claim_id=request.claim_id,
            state=claimed.state,
            messages=claimed.messages,
            content_hash=claimed.content_hash,
            send_window=self._servicer.send_window,
        )
        await self._responses.put(delivery_pb2.DeliverResponse(claim=result))

    async def _look_up(self, campaign_id: UUID, request: delivery_pb2.LookUpRequest) -> None:
        try:
            limit = min(max(request.limit, 1), LOOK_UPS_MAX)
            result = await self._servicer.look_ups.lease(campaign_id, limit)
        except STORE_ERRORS as error:
            raise_if_cancelled()
            log.warning(
                "look_up_failed", error=type(error).__name__, campaign_id=request.campaign_id
            )
            result = delivery_pb2.LookUpResult()
        finally:
            self._claims_at_once.release()
        result.look_up_id = request.look_up_id
        await self._responses.put(delivery_pb2.DeliverResponse(look_up=result))

    async def _commit(self) -> None:
        """Batches in order, several together when they wait; acknowledged once all of them are committed."""
        while True:
            batch = await self._batches.get()
            if batch is None:
                return
            together, last = [batch], False
            with suppress(asyncio.QueueEmpty):
                while len(together) < BATCHES_TOGETHER_MAX:
                    following = self._batches.get_nowait()
                    if following is None:
                        last = True
                        break
                    together.append(following)
            await self._apply(together)
            reached("reports-before-ack")
            ack = delivery_pb2.ReportAck(sequence=together[-1].sequence)
            await self._responses.put(delivery_pb2.DeliverResponse(ack=ack))
            if last:
                return

    async def _apply(self, batches: list[delivery_pb2.ReportBatch]) -> None:
        """Commit these batches: through outages, as long as the stream lives."""
        while True:
            try:
                await self._servicer.reports.apply(batches)
            except (*STORE_ERRORS, ValueError) as error:
                raise_if_cancelled()  # asyncpg's own failure to end a statement may have taken its place
                if is_outage(error):
                    log.warning("reports_wait_for_store", error=type(error).__name__)
                    await asyncio.sleep(COMMIT_RETRY_SECONDS)
                    continue
                await self._apply_one_by_one(batches, error)
            return

    async def _apply_one_by_one(
        self, batches: list[delivery_pb2.ReportBatch], error: Exception
    ) -> None:
        """The store refuses something in these: a fault of ours. It must not hold up the rest.

        What is set aside stays SENDING or SENT, and look-ups and timers settle it.
        """
        if len(batches) > 1:
            for batch in batches:
                await self._apply([batch])
            return
        log.error(
            "reports_set_aside",
            campaigns=[part.campaign_id for part in batches[0].campaigns],
            exc_info=error,
        )

    async def _write(self) -> None:
        while (response := await self._responses.get()) is not None:
            try:
                async with asyncio.timeout(self._servicer.write_seconds_max):
                    await self._context.write(response)
            except TimeoutError as error:
                raise _StreamEnds(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "the sender does not read: connect again"
                ) from error


def _check_claim(request: delivery_pb2.ClaimRequest) -> UUID:
    """The campaign's id, when the claim makes sense."""
    if not 1 <= request.limit <= CLAIM_MESSAGES_MAX:
        raise _malformed(f"a claim's limit is 1 to {CLAIM_MESSAGES_MAX}")
    if request.run < 1 or not 1 <= request.first <= request.last:
        raise _malformed("a claim is of a run, and of numbers from first to last")
    return _uuid(request.campaign_id)


def _check_batch(batch: delivery_pb2.ReportBatch, sequence: int) -> None:
    """Refuse what could not be applied; a batch is checked before anything of it is committed."""
    if batch.sequence != sequence:
        raise _malformed(f"batch {batch.sequence} after batch {sequence - 1}")
    if sum(len(part.reports) for part in batch.campaigns) > REPORTS_MAX:
        raise _malformed(f"a batch has at most {REPORTS_MAX} reports")
    for part in batch.campaigns:
        _uuid(part.campaign_id)
    for failure in batch.campaign_failures:
        _uuid(failure.campaign_id)
    for opt_out in batch.opt_outs:
        _uuid(opt_out.organisation_id)
        if opt_out.campaign_id:
            _uuid(opt_out.campaign_id)
        fault = opt_out_fault(opt_out)
        if fault is not None:
            raise _malformed(fault)
    for ended in batch.ended_instances:
        _uuid(ended.instance_id)
        for begun in ended.begun:
            _uuid(begun.campaign_id)
            if len(begun.numbers) != len(begun.attempts):
                raise _malformed("begun attempts are pairs of numbers and attempts")


def _names(fields: Fields, field: str, names: Sequence[str]) -> list[str]:
    """Addresses or domains as they are compared: in lower case, each once. What no sender can be is left out."""
    if len(names) > SENDERS_MAX:
        fields.refuse(field, "FIELD_OUT_OF_RANGE", f"At most {SENDERS_MAX:,}.")
    return sorted(
        {name.lower() for name in names if 0 < len(name) <= SENDER_CHARS_MAX and "\0" not in name}
    )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise _malformed("an id is not a UUID") from error


def _malformed(text: str) -> _StreamEnds:
    return _StreamEnds(grpc.StatusCode.INVALID_ARGUMENT, text)
