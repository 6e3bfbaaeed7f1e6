"""The stream to the campaign service: claims down, reports up, acknowledgements after commit.

Each stream is an instance of its own towards the campaign service. When a stream breaks, a claim
may have been committed whose answer never arrived; so once everything known to have been claimed by
that instance is reported and committed, the instance is reported as ended, and the campaign service
queues again what it had claimed beyond that. Nothing waits for a time-out, and nothing is guessed.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import grpc
import grpc.aio
import structlog
import uuid_utils

from outreach.cancellation import raise_if_cancelled
from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.sending.journal import Journal
from outreach.sending.reporter import Reporter, SentBatches
from outreach.vocabulary import Channel

Metadata = tuple[tuple[str, str], ...]
_AnswerT = TypeVar("_AnswerT")
_Call = grpc.aio.StreamStreamCall[delivery_pb2.DeliverRequest, delivery_pb2.DeliverResponse]

#: A Welcome or a claim's answer that takes longer ends the stream.
ANSWER_SECONDS_MAX = 15.0
RECONNECT_SECONDS_MIN = 0.1
RECONNECT_SECONDS_MAX = 1.0
#: Requests that wait to be written.
OUTGOING_MAX = 64

_log = structlog.get_logger(__name__)


class StreamLost(Exception):
    """The stream broke before the answer came; the work has to be asked for again."""


@dataclass(eq=False)
class Instance:
    """One stream's identity. `open` counts its claimed messages that have no reported outcome."""

    instance_id: UUID
    index: int
    open: int = 0
    has_asked: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def claimed(self, count: int) -> None:
        """So many messages are ours now."""
        self.open += count
        if count:
            self.settled.clear()

    def reported(self, count: int) -> None:
        """So many have an outcome that was given to the reporter."""
        self.open -= count
        assert self.open >= 0
        if not self.open:
            self.settled.set()


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim. `deadline_seconds`: on `time.monotonic`, from before it was asked."""

    result: delivery_pb2.ClaimResult
    instance: Instance
    deadline_seconds: float


@dataclass(frozen=True, slots=True)
class _PendingClaim:
    answer: asyncio.Future[Claimed]
    asked_seconds: float


class _Connection:
    """One stream, from its Welcome to its end."""

    def __init__(self, call: _Call, instance: Instance) -> None:
        self.call = call
        self.instance = instance
        self.outgoing: asyncio.Queue[delivery_pb2.DeliverRequest] = asyncio.Queue(OUTGOING_MAX)
        self.sent = SentBatches()
        self.claims: dict[int, _PendingClaim] = {}
        self.look_ups: dict[int, asyncio.Future[delivery_pb2.LookUpResult]] = {}

    def fail(self) -> None:
        for claim in self.claims.values():
            _fail(claim.answer)
        for answer in self.look_ups.values():
            _fail(answer)


def _fail(answer: asyncio.Future[Claimed] | asyncio.Future[delivery_pb2.LookUpResult]) -> None:
    if not answer.done():
        answer.set_exception(StreamLost())


class DeliveryStream:
    """Keeps a stream open for ever, with jittered reconnects, and asks on it."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        sends: Channel,
        journal: Journal,
        reporter: Reporter,
    ) -> None:
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._sends = sends
        self._journal = journal
        self._reporter = reporter
        self._connection: _Connection | None = None
        self._connected = asyncio.Event()
        self._next_id = 1
        self._ending: set[Instance] = set()

    @property
    def is_connected(self) -> bool:
        """Whether a stream is open and welcomed."""
        return self._connection is not None

    async def connected(self) -> None:
        """Wait until a stream is open."""
        await self._connected.wait()

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        pause = RECONNECT_SECONDS_MIN
        async with asyncio.TaskGroup() as tasks:
            while True:
                # In a task of its own: when a task of a TaskGroup fails, Python 3.11 may leave its host marked as
                # cancelled, or forget that it really was. Here the mark is to be trusted.
                welcomed = await tasks.create_task(self._until_lost())
                raise_if_cancelled()
                if welcomed:
                    pause = RECONNECT_SECONDS_MIN
                for instance in [*self._ending]:
                    self._ending.discard(instance)
                    tasks.create_task(self._end(instance))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(RECONNECT_SECONDS_MAX, pause * 2)

    async def _until_lost(self) -> bool:
        """One stream, until it breaks; whether it was welcomed."""
        welcomed = False
        try:
            async with self._open() as (call, connection, reports_max):
                welcomed = True
                await self._converse(call, connection, reports_max)
        except* (grpc.aio.AioRpcError, StreamLost, TimeoutError, OSError) as faults:
            _log.warning("delivery_stream_lost", causes=sorted(_causes(faults)))
        return welcomed

    @asynccontextmanager
    async def _open(
        self,
    ) -> AsyncIterator[tuple[_Call, _Connection, int]]:
        call = self._stub.Deliver(metadata=self._metadata)
        instance_id = UUID(str(uuid_utils.uuid7()))
        hello = delivery_pb2.Hello(
            instance_id=str(instance_id),
            channel=int(self._sends),  # type: ignore[arg-type]  # same numbers, held by a test
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                with _as_lost(call):
                    await call.write(delivery_pb2.DeliverRequest(hello=hello))
                    answer = await call.read()
            if not isinstance(answer, delivery_pb2.DeliverResponse):
                raise StreamLost
            if answer.WhichOneof("response") != "welcome":
                raise StreamLost
            instance = Instance(instance_id, self._journal.open_instance(instance_id))
            instance.settled.set()
            connection = _Connection(call, instance)
            self._connection = connection
            self._connected.set()
            _log.info("delivery_stream_open", instance_id=str(instance_id))
            try:
                yield call, connection, answer.welcome.reports_max
            finally:
                self._connection = None
                self._connected.clear()
                connection.fail()
                self._ending.add(instance)
        finally:
            call.cancel()

    async def _converse(self, call: _Call, connection: _Connection, reports_max: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(call, connection))
            tasks.create_task(self._read(call, connection))
            tasks.create_task(
                self._reporter.feed(connection.outgoing.put, connection.sent, reports_max)
            )

    async def _write(self, call: _Call, connection: _Connection) -> None:
        while True:
            request = await connection.outgoing.get()
            with _as_lost(call):
                await call.write(request)

    async def _read(self, call: _Call, connection: _Connection) -> None:
        while True:
            with _as_lost(call):
                response = await call.read()
            if not isinstance(response, delivery_pb2.DeliverResponse):  # the end of the stream
                raise StreamLost
            kind = response.WhichOneof("response")
            if kind == "claim":
                self._on_claim(connection, response.claim)
            elif kind == "ack":
                reached("ack-before-taken")
                self._reporter.on_ack(connection.sent.acked(response.ack.sequence))
            elif kind == "look_up":
                answer = connection.look_ups.pop(response.look_up.look_up_id, None)
                if answer is not None and not answer.done():
                    answer.set_result(response.look_up)

    def _on_claim(self, connection: _Connection, result: delivery_pb2.ClaimResult) -> None:
        pending = connection.claims.pop(result.claim_id, None)
        if pending is None or pending.answer.done():
            return  # nobody waits any more: the stream is ending, and its instance with it
        reached("claim-received")
        connection.instance.claimed(len(result.messages))
        window = result.send_window
        deadline = pending.asked_seconds + window.seconds + window.nanos / 1e9
        pending.answer.set_result(Claimed(result, connection.instance, deadline))

    async def _end(self, instance: Instance) -> None:
        """Tell that a broken stream's instance is over, after all that is known of it."""
        if instance.has_asked:
            await instance.settled.wait()
            await self._reporter.flushed()
            ended = delivery_pb2.EndedInstance(instance_id=str(instance.instance_id))
            await self._reporter.acked_through(self._reporter.submit_ended_instance(ended))
        try:
            self._journal.instance_ended(instance.index)
        except OSError as error:
            # told again after the process has ended, which changes nothing
            _log.error("journal_write_failed", error=error.strerror)

    def renew(self) -> None:
        """End the open stream; the next one is another instance."""
        if self._connection is not None:
            self._connection.call.cancel()

    async def end_current(self) -> None:
        """For the end of the process: the open stream's instance is over. Claim nothing after."""
        connection = self._connection
        if connection is not None:
            await self._end(connection.instance)

    async def claim(
        self, *, campaign_id: str, run: int, first: int, last: int, limit: int
    ) -> Claimed:
        """Ask to claim. Raises StreamLost: then nothing of it may be sent (see the module)."""
        connection = self._require()
        claim_id = self._new_id()
        answer: asyncio.Future[Claimed] = asyncio.get_running_loop().create_future()
        connection.claims[claim_id] = _PendingClaim(answer, time.monotonic())
        connection.instance.has_asked = True
        request = delivery_pb2.ClaimRequest(
            claim_id=claim_id,
            campaign_id=campaign_id,
            run=run,
            first=first,
            last=last,
            limit=limit,
        )
        return await self._ask(
            connection,
            delivery_pb2.DeliverRequest(claim=request),
            answer,
            lambda: connection.claims.pop(claim_id, None),
        )

    async def look_up(self, *, campaign_id: str, limit: int) -> delivery_pb2.LookUpResult:
        """Ask for attempts whose outcome is unknown and whose look-up is due. Raises StreamLost."""
        connection = self._require()
        look_up_id = self._new_id()
        answer: asyncio.Future[delivery_pb2.LookUpResult] = (
            asyncio.get_running_loop().create_future()
        )
        connection.look_ups[look_up_id] = answer
        request = delivery_pb2.LookUpRequest(
            look_up_id=look_up_id, campaign_id=campaign_id, limit=limit
        )
        return await self._ask(
            connection,
            delivery_pb2.DeliverRequest(look_up=request),
            answer,
            lambda: connection.look_ups.pop(look_up_id, None),
        )

    async def _ask(
        self,
        connection: _Connection,
        request: delivery_pb2.DeliverRequest,
        answer: asyncio.Future[_AnswerT],
        forget: Callable[[], object],
    ) -> _AnswerT:
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await connection.outgoing.put(request)
                return await answer
        except TimeoutError as error:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                return answer.result()  # both in one turn of the loop: what it grants is ours
            # an answer that comes after all must not be lost on a stream that lives on
            connection.call.cancel()
            raise StreamLost from error
        finally:
            forget()

    def _require(self) -> _Connection:
        if self._connection is None:
            raise StreamLost
        return self._connection

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id


@contextmanager
def _as_lost(call: _Call) -> Iterator[None]:
    """grpc.aio raises CancelledError in the reader of a call that was cancelled (by `renew`), which
    a TaskGroup would take for the task's own end; and InvalidStateError when the call is over.
    """
    try:
        yield
    except asyncio.InvalidStateError as error:
        raise StreamLost from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if call.cancelled() and task is not None and not task.cancelling():
            raise StreamLost from None
        raise


def _causes(group: BaseExceptionGroup[BaseException]) -> set[str]:
    names: set[str] = set()
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            names |= _causes(error)
        elif isinstance(error, grpc.aio.AioRpcError):
            names.add(error.code().name)
        else:
            names.add(type(error).__name__)
    return names
