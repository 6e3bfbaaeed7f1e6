"""TestSendService."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc

from outreach.rpc.call import current_caller
from outreach.v1 import failure_reason_pb2, message_pb2, test_send_pb2, test_send_pb2_grpc
from services.campaign.rpc.convert import timestamp
from services.campaign.rpc.fields import Fields, request_key
from services.campaign.store import Connection, Pool
from services.campaign.store.test_sends import TestMessageRecord, TestSendRecord
from services.campaign.usecases.create_test_send import (
    TestSendCommand,
    TestSendTerms,
    create_test_send,
)
from services.campaign.usecases.get_test_send import get_test_send, handed_over_test_send
from services.campaign.usecases.once import Once
from services.campaign.watch.hub import WatchHub

#: From the call's beginning: then it answers with what is known.
ANSWER_SECONDS_MAX = 20.0
#: So long before the caller's deadline: what was sent is worth more to it than DEADLINE_EXCEEDED.
DEADLINE_MARGIN_SECONDS = 1.0

_Context = grpc.aio.ServicerContext[Any, Any]


class TestSendServicer(test_send_pb2_grpc.TestSendServiceServicer):
    """Thin: reads the request, calls the use case, writes the answer. See test_send.proto."""

    def __init__(
        self,
        pool: Pool,
        hub: WatchHub,
        *,
        terms: TestSendTerms,
        on_run: Callable[[], None],
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
    ) -> None:
        """`on_run`: called after a test send was committed, so that it is dispatched at once."""
        self._pool = pool
        self._once = Once(pool)
        self._hub = hub
        self._terms = terms
        self._on_run = on_run
        self._answer_seconds_max = answer_seconds_max

    async def CreateTestSend(
        self, request: test_send_pb2.CreateTestSendRequest, context: _Context
    ) -> test_send_pb2.TestSend:
        until_seconds = self._answer_due(context)
        caller, fields = current_caller(), Fields()
        command = TestSendCommand(
            campaign_id=fields.uuid("campaign_id", request.campaign_id),
            recipients=tuple(request.recipients),
            values=dict(request.values),
        )
        key = request_key(fields, caller, "CreateTestSend", request, request.request_id)
        fields.check()

        async def create(connection: Connection) -> test_send_pb2.TestSend:
            return _to_proto(await create_test_send(connection, caller, self._terms, command))

        answer = await self._once(
            key, test_send_pb2.TestSend, create, validate_only=request.validate_only
        )
        if request.validate_only:
            return _checked_only(answer)
        self._on_run()
        # Also for a repeated request: not the kept answer, but what has become of the same test.
        return _to_proto(
            await handed_over_test_send(
                self._pool, self._hub, caller, UUID(answer.id), until_seconds=until_seconds
            )
        )

    async def GetTestSend(
        self, request: test_send_pb2.GetTestSendRequest, context: object
    ) -> test_send_pb2.TestSend:
        fields = Fields()
        test_send_id = fields.uuid("id", request.id)
        fields.check()
        return _to_proto(await get_test_send(self._pool, current_caller(), test_send_id))

    def _answer_due(self, context: _Context) -> float:
        """By the loop's clock, not later than the caller's deadline allows."""
        seconds = self._answer_seconds_max
        remaining: float | None = context.time_remaining()
        if remaining is not None:
            seconds = min(seconds, remaining - DEADLINE_MARGIN_SECONDS)
        return asyncio.get_running_loop().time() + seconds


def _to_proto(record: TestSendRecord) -> test_send_pb2.TestSend:
    return test_send_pb2.TestSend(
        id=str(record.id),
        campaign_id=str(record.campaign_id),
        messages=[_message_to_proto(message) for message in record.messages],
        final=record.is_final,
        create_time=timestamp(record.create_time),
    )


def _message_to_proto(record: TestMessageRecord) -> test_send_pb2.TestMessage:
    return test_send_pb2.TestMessage(
        recipient=record.recipient,
        status=message_pb2.MessageStatus.ValueType(record.status),
        failure_reason=failure_reason_pb2.FailureReason.ValueType(record.failure_reason or 0),
        provider_code=record.provider_code or "",
        provider_message_id=record.provider_message_id or "",
        update_time=timestamp(record.update_time),
    )


def _checked_only(answer: test_send_pb2.TestSend) -> test_send_pb2.TestSend:
    """Nothing was stored: whose test it would be, and the recipients as they would be sent to."""
    return test_send_pb2.TestSend(
        campaign_id=answer.campaign_id,
        messages=[
            test_send_pb2.TestMessage(recipient=message.recipient) for message in answer.messages
        ],
    )
