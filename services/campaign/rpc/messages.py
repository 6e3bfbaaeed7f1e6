"""MessageService."""

from uuid import UUID

from outreach.rpc.call import current_caller
from outreach.rpc.filters import message_filter_of
from outreach.v1 import message_pb2, message_pb2_grpc
from services.campaign.rpc.convert import message_to_proto
from services.campaign.rpc.fields import Fields, query_hash
from services.campaign.rpc.pages import PageTokens, fitting
from services.campaign.rpc.timelines import timeline_to_proto
from services.campaign.store import Pool
from services.campaign.usecases import read_messages
from services.campaign.usecases.read_timeline import read_timeline

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
_NUMBER_BYTES = 4


class MessageServicer(message_pb2_grpc.MessageServiceServicer):
    """Thin: reads the request, calls the use case, writes the answer. See message.proto."""

    def __init__(self, pool: Pool, *, page_tokens: PageTokens, recipient_key: bytes) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._recipient_key = recipient_key

    async def GetMessage(
        self, request: message_pb2.GetMessageRequest, context: object
    ) -> message_pb2.Message:
        campaign_id = _campaign_of(request)
        message, variable_names = await read_messages.get_message(
            self._pool, current_caller(), campaign_id, request.number
        )
        return message_to_proto(campaign_id, message, variable_names)

    async def GetMessageTimeline(
        self, request: message_pb2.GetMessageTimelineRequest, context: object
    ) -> message_pb2.MessageTimeline:
        campaign_id = _campaign_of(request)
        timeline = await read_timeline(self._pool, current_caller(), campaign_id, request.number)
        return timeline_to_proto(campaign_id, timeline)

    async def ListMessages(
        self, request: message_pb2.ListMessagesRequest, context: object
    ) -> message_pb2.ListMessagesResponse:
        caller, fields = current_caller(), Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        size = fields.page_size(request.page_size, default=PAGE_SIZE_DEFAULT, maximum=PAGE_SIZE_MAX)
        asked = message_filter_of(fields, request.filter)
        fields.check()
        query = query_hash(
            caller, "ListMessages", request.filter, {"campaign_id": str(campaign_id)}
        )
        position = self._page_tokens.read(request.page_token, query)
        found = await read_messages.list_messages(
            self._pool,
            caller,
            campaign_id,
            asked,
            recipient_key=self._recipient_key,
            after=0 if position is None else int.from_bytes(position, "big"),
            limit=size,
        )
        messages = [
            message_to_proto(campaign_id, message, found.variable_names)
            for message in found.messages
        ]
        shown = fitting(messages)
        more_after = found.more_after
        if shown < len(messages):
            more_after = found.messages[shown - 1].number
        token = ""
        if more_after is not None:
            token = self._page_tokens.make(more_after.to_bytes(_NUMBER_BYTES, "big"), query)
        return message_pb2.ListMessagesResponse(messages=messages[:shown], next_page_token=token)


def _campaign_of(
    request: message_pb2.GetMessageRequest | message_pb2.GetMessageTimelineRequest,
) -> UUID:
    """Of a request for one message."""
    fields = Fields()
    campaign_id = fields.uuid("campaign_id", request.campaign_id)
    if request.number < 1:
        fields.refuse("number", "FIELD_OUT_OF_RANGE", "Messages are numbered from 1.")
    fields.check()
    return campaign_id
