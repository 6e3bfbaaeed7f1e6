"""The calls of `outreach.v1.MessageService`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cached_property

from outreach.client.connection import Connection
from outreach.v1 import message_pb2, message_pb2_grpc
from outreach.v1.failure_reason_pb2 import FailureReason

_PAGE_SIZE_MAX = 1_000


class MessageCalls(Connection):
    """Look at a campaign's messages. Every call raises `CallError` (`message.proto`)."""

    async def get_message(self, campaign_id: str, number: int) -> message_pb2.Message:
        """One message by its number in the campaign, from 1."""
        request = message_pb2.GetMessageRequest(campaign_id=campaign_id, number=number)
        return await self._call(self._messages.GetMessage, request)

    async def get_message_timeline(
        self, campaign_id: str, number: int
    ) -> message_pb2.MessageTimeline:
        """One message with its attempts, the changes of its status, and what its recipient gets."""
        request = message_pb2.GetMessageTimelineRequest(campaign_id=campaign_id, number=number)
        return await self._call(self._messages.GetMessageTimeline, request)

    async def list_messages(
        self,
        campaign_id: str,
        *,
        statuses: Sequence[message_pb2.MessageStatus.ValueType] = (),
        failure_reasons: Sequence[FailureReason.ValueType] = (),
        recipient: str = "",
        recipient_contains: str = "",
        run: int = 0,
        page_size: int = 0,
        page_token: str = "",
    ) -> message_pb2.ListMessagesResponse:
        """One page by number, ascending; `all_messages` reads every page.

        Only the page without a `next_page_token` is the last: one may be short, or empty, where few
        of many messages match.
        """
        request = message_pb2.ListMessagesRequest(
            campaign_id=campaign_id,
            page_size=page_size,
            page_token=page_token,
            filter=message_pb2.MessageFilter(
                statuses=statuses,
                failure_reasons=failure_reasons,
                recipient=recipient,
                recipient_contains=recipient_contains,
                run=run,
            ),
        )
        return await self._call(self._messages.ListMessages, request)

    async def all_messages(
        self,
        campaign_id: str,
        *,
        statuses: Sequence[message_pb2.MessageStatus.ValueType] = (),
        failure_reasons: Sequence[FailureReason.ValueType] = (),
        recipient: str = "",
        recipient_contains: str = "",
        run: int = 0,
    ) -> AsyncIterator[message_pb2.Message]:
        """Every message that matches, by number, page after page."""
        page_token = ""
        while True:
            page = await self.list_messages(
                campaign_id,
                statuses=statuses,
                failure_reasons=failure_reasons,
                recipient=recipient,
                recipient_contains=recipient_contains,
                run=run,
                page_size=_PAGE_SIZE_MAX,
                page_token=page_token,
            )
            for message in page.messages:
                yield message
            page_token = page.next_page_token
            if not page_token:
                return

    @cached_property
    def _messages(self) -> message_pb2_grpc.MessageServiceAsyncStub:
        return message_pb2_grpc.MessageServiceStub(self._channel)
