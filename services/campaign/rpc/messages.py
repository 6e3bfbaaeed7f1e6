"""MessageService."""

from uuid import UUID

from outreach.recipients import recipient_hash
from outreach.rpc.call import current_caller
from outreach.v1 import message_pb2, message_pb2_grpc
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.rpc.convert import message_to_proto
from services.campaign.rpc.fields import Fields, query_hash
from services.campaign.rpc.pages import PageTokens, fitting
from services.campaign.rpc.timelines import timeline_to_proto
from services.campaign.store import Pool
from services.campaign.store.messages import MessageFilter
from services.campaign.usecases import read_campaigns, read_messages
from services.campaign.usecases.read_timeline import read_timeline

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
RECIPIENT_CHARACTERS_MAX = 320
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
        where = _filter_of(fields, request.filter)
        fields.check()
        query = query_hash(
            caller, "ListMessages", request.filter, {"campaign_id": str(campaign_id)}
        )
        position = self._page_tokens.read(request.page_token, query)
        if request.filter.recipient:
            where = await self._with_recipient(where, campaign_id, request.filter.recipient)
        found, variable_names = await read_messages.list_messages(
            self._pool,
            caller,
            campaign_id,
            where,
            after=0 if position is None else int.from_bytes(position, "big"),
            limit=size + 1,
        )
        messages = [
            message_to_proto(campaign_id, message, variable_names) for message in found[:size]
        ]
        shown = fitting(messages)
        token = ""
        if shown < len(found):
            last = found[shown - 1].number.to_bytes(_NUMBER_BYTES, "big")
            token = self._page_tokens.make(last, query)
        return message_pb2.ListMessagesResponse(messages=messages[:shown], next_page_token=token)

    async def _with_recipient(
        self, where: MessageFilter, campaign_id: UUID, recipient: str
    ) -> MessageFilter:
        """Recipients are compared as duplicates and suppressions are: by their keyed hash."""
        campaign = await read_campaigns.get_campaign(self._pool, current_caller(), campaign_id)
        return MessageFilter(
            statuses=where.statuses,
            failure_reasons=where.failure_reasons,
            recipient_hash=recipient_hash(self._recipient_key, campaign.channel, recipient),
            run=where.run,
        )


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


def _filter_of(fields: Fields, where: message_pb2.MessageFilter) -> MessageFilter:
    if where.run < 0:
        fields.refuse("filter.run", "FIELD_OUT_OF_RANGE", "Runs are numbered from 1.")
    fields.text("filter.recipient", where.recipient, RECIPIENT_CHARACTERS_MAX)
    return MessageFilter(
        statuses=fields.choices("filter.statuses", where.statuses, MessageStatus),
        failure_reasons=fields.choices(
            "filter.failure_reasons", where.failure_reasons, FailureReason
        ),
        run=where.run or None,
    )
