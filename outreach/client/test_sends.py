"""The calls of `outreach.v1.TestSendService`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from outreach.client.connection import Connection, new_request_id
from outreach.v1 import test_send_pb2, test_send_pb2_grpc


class TestSendCalls(Connection):
    """Send a campaign's message to a few recipients. Every call raises `CallError`
    (`test_send.proto`).
    """

    async def create_test_send(
        self,
        campaign_id: str,
        recipients: Sequence[str],
        *,
        values: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> test_send_pb2.TestSend:
        """Send, and wait until every message was handed to the provider or failed, 20 s at most.

        `values` by variable name are the same for all recipients, 1 to 10 of them. Repeats itself
        with its `request_id`, and never sends twice by that.
        """
        request = test_send_pb2.CreateTestSendRequest(
            campaign_id=campaign_id,
            recipients=recipients,
            values=values,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        return await self._call(
            self._test_sends.CreateTestSend,
            request,
            timeout_seconds=self.timeouts.test_send_seconds,
        )

    async def get_test_send(self, test_send_id: str) -> test_send_pb2.TestSend:
        """What became of it; they are kept for 7 days."""
        request = test_send_pb2.GetTestSendRequest(id=test_send_id)
        return await self._call(self._test_sends.GetTestSend, request)

    @cached_property
    def _test_sends(self) -> test_send_pb2_grpc.TestSendServiceAsyncStub:
        return test_send_pb2_grpc.TestSendServiceStub(self._channel)
