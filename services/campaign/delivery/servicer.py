"""DeliveryService: one bidirectional stream a sender. Claims run beside each other, reports commit in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.postgres.outage import is_outage
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.content import Contents
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.reports import Reports

log = structlog.get_logger()

#: Reports in one batch; told to the sender in Welcome.
REPORTS_MAX = 500
#: Batches of a stream that wait for a commit; beyond that the stream is not read.
BATCHES_WAITING_MAX = 64
#: Batches committed together.
BATCHES_TOGETHER_MAX = 8
#: Claims and look-ups of a stream that run at the same time; beyond that the stream is not read.
CLAIMS_AT_ONCE_MAX = 8
RESPONSES_WAITING_MAX = 256
#: A commit that fails is repeated after this; the sender keeps its reports until it is acknowledged.
COMMIT_RETRY_SECONDS = 0.5

_STORE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

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
    ) -> None:
        self.claims = claims
        self.reports = reports
        self.look_ups = look_ups
        self._contents = contents
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
            await context.abort(failure.code, failure.text)

    async def GetCampaignContent(
        self, request: delivery_pb2.GetCampaignContentRequest, context: _Context
    ) -> delivery_pb2.CampaignContent:
        """See delivery.proto."""
        return await self._contents.campaign_content(UUID(request.campaign_id))

    async def GetProviderAccount(
        self, request: delivery_pb2.GetProviderAccountRequest, context: _Context
    ) -> delivery_pb2.ProviderAccount:
        """See delivery.proto."""
        return await self._contents.provider_account(UUID(request.organisation_id), request.channel)


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

    async def run(self, requests: AsyncIterator[delivery_pb2.DeliverRequest]) -> None:
        """Until the sender closes its side, the stream breaks, or the service drains."""
        async with asyncio.TaskGroup() as all_tasks:
            writer = all_tasks.create_task(self._write())
            drain = all_tasks.create_task(self._end_on_drain())
            async with asyncio.TaskGroup() as tasks:
                committer = tasks.create_task(self._commit())
                await self._read(requests, tasks)
                await self._batches.put(None)
                await committer
            await self._responses.put(None)
            await writer
            drain.cancel()

    async def _end_on_drain(self) -> None:
        await self._servicer.draining.wait()
        raise _StreamEnds(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING: connect again")

    async def _read(
        self, requests: AsyncIterator[delivery_pb2.DeliverRequest], tasks: asyncio.TaskGroup
    ) -> None:
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "hello":
                self._instance_id = _uuid(request.hello.instance_id)
                welcome = delivery_pb2.Welcome(reports_max=REPORTS_MAX)
                await self._responses.put(delivery_pb2.DeliverResponse(welcome=welcome))
            elif self._instance_id is None:
                raise _StreamEnds(
                    grpc.StatusCode.FAILED_PRECONDITION, "the first request is a Hello"
                )
            elif kind == "reports":
                await self._batches.put(request.reports)
            elif kind == "claim":
                await self._claims_at_once.acquire()
                tasks.create_task(self._claim(self._instance_id, request.claim))
            elif kind == "look_up":
                await self._claims_at_once.acquire()
                tasks.create_task(self._look_up(request.look_up))
            else:
                raise _StreamEnds(grpc.StatusCode.INVALID_ARGUMENT, "an unknown request")

    async def _claim(self, instance_id: UUID, request: delivery_pb2.ClaimRequest) -> None:
        try:
            claimed = await self._servicer.claims.claim(
                instance_id,
                _uuid(request.campaign_id),
                request.run,
                request.first,
                request.last,
                request.limit,
            )
        except _STORE_ERRORS as error:
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

    async def _look_up(self, request: delivery_pb2.LookUpRequest) -> None:
        try:
            result = await self._servicer.look_ups.lease(
                _uuid(request.campaign_id), min(max(request.limit, 1), 100)
            )
        except _STORE_ERRORS as error:
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
            ack = delivery_pb2.ReportAck(sequence=together[-1].sequence)
            await self._responses.put(delivery_pb2.DeliverResponse(ack=ack))
            if last:
                return

    async def _apply(self, batches: list[delivery_pb2.ReportBatch]) -> None:
        """Commit these batches: through outages, as long as the stream lives."""
        while True:
            try:
                await self._servicer.reports.apply(batches)
            except ValueError as error:
                raise _StreamEnds(
                    grpc.StatusCode.INVALID_ARGUMENT, "a report that can't be read: ids are UUIDs"
                ) from error
            except _STORE_ERRORS as error:
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
            await self._context.write(response)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise _StreamEnds(grpc.StatusCode.INVALID_ARGUMENT, "an id is not a UUID") from error
