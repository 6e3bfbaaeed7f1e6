"""CampaignService."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from outreach.crash_points import reached
from outreach.errors import OutreachError
from outreach.rpc.call import Caller, current_caller
from outreach.v1 import campaign_pb2, campaign_pb2_grpc
from outreach.vocabulary import Channel
from services.campaign.delivery.changes import Wakeups
from services.campaign.domain.content import EmailContent
from services.campaign.domain.disclaimer import DISCLAIMER_POINTS, DISCLAIMER_VERSION
from services.campaign.domain.draft_rules import check_form
from services.campaign.rpc.campaign_requests import (
    draft_of,
    filter_of,
    previewed_of,
    run_of,
    update_of,
)
from services.campaign.rpc.convert import campaign_to_proto
from services.campaign.rpc.estimates import estimate_to_proto, preview_to_proto
from services.campaign.rpc.fields import Fields, query_hash, request_key
from services.campaign.rpc.pages import PAGE_BYTES_MAX, PageTokens, fitting
from services.campaign.rpc.retry_requests import retry_of, stop_of
from services.campaign.store import Connection, Pool
from services.campaign.store.campaigns import get_campaign as stored_campaign
from services.campaign.store.requests import RequestKey
from services.campaign.usecases import read_campaigns
from services.campaign.usecases.compile_template import (
    ROUNDS_MAX,
    TemplateChangedError,
    TemplateCompiler,
)
from services.campaign.usecases.create_campaign import create_campaign
from services.campaign.usecases.delete_campaign import DeleteCommand, delete_campaign
from services.campaign.usecases.estimate_campaign import estimate_campaign
from services.campaign.usecases.once import Once
from services.campaign.usecases.preview_campaign import preview_campaign
from services.campaign.usecases.retry_messages import RetryCommand, retry_messages
from services.campaign.usecases.run_campaign import (
    ChannelTakenError,
    RunCommand,
    channel_busy,
    run_campaign,
)
from services.campaign.usecases.stop_campaign import stop_campaign
from services.campaign.usecases.update_campaign import (
    UpdateCommand,
    compile_edit,
    update_campaign,
)

Answer = TypeVar("Answer")

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
#: A channel that is taken by a run that ends at that very moment is tried again, so often at most.
_RUN_ATTEMPTS_MAX = 5


class CampaignServicer(campaign_pb2_grpc.CampaignServiceServicer):
    """Thin: reads the request, calls the use case, writes the answer. See campaign.proto."""

    def __init__(
        self,
        pool: Pool,
        *,
        page_tokens: PageTokens,
        wakeups: Wakeups,
        compiler: TemplateCompiler,
        on_run: Callable[[], None],
        on_stop: Callable[[Channel, UUID, int], Awaitable[None]],
        on_delete: Callable[[], None],
    ) -> None:
        """`on_run`: called after a run was committed, so that it is dispatched at once. `on_stop`: likewise after a
        stop (channel, campaign, run), so that senders hear of it, and what is queued is cancelled. `on_delete`: after
        a deletion, so that the rows go at once.
        """
        self._pool = pool
        self._once = Once(pool)
        self._page_tokens = page_tokens
        self._wakeups = wakeups
        self._compiler = compiler
        self._on_run = on_run
        self._on_stop = on_stop
        self._on_delete = on_delete

    async def CreateCampaign(
        self, request: campaign_pb2.CreateCampaignRequest, context: object
    ) -> campaign_pb2.Campaign:
        caller, fields = current_caller(), Fields()
        draft = draft_of(fields, request.campaign)
        key = request_key(fields, caller, "CreateCampaign", request, request.request_id)
        # What the domain finds is told together with what could not be read.
        fields.violations += check_form(draft)
        fields.check()
        content = draft.content
        compilation = await self._compiler(content) if isinstance(content, EmailContent) else None

        async def create(connection: Connection) -> campaign_pb2.Campaign:
            return campaign_to_proto(await create_campaign(connection, caller, draft, compilation))

        campaign = await self._once(
            key, campaign_pb2.Campaign, create, validate_only=request.validate_only
        )
        if request.validate_only:
            for field in ("id", "etag", "create_time", "update_time"):
                campaign.ClearField(field)
        return campaign

    async def GetCampaign(
        self, request: campaign_pb2.GetCampaignRequest, context: object
    ) -> campaign_pb2.Campaign:
        campaign_id = _campaign_id(request.id)
        return campaign_to_proto(
            await read_campaigns.get_campaign(self._pool, current_caller(), campaign_id)
        )

    async def ListCampaigns(
        self, request: campaign_pb2.ListCampaignsRequest, context: object
    ) -> campaign_pb2.ListCampaignsResponse:
        caller, fields = current_caller(), Fields()
        where = filter_of(fields, request.filter)
        size = fields.page_size(request.page_size, default=PAGE_SIZE_DEFAULT, maximum=PAGE_SIZE_MAX)
        fields.check()
        query = query_hash(caller, "ListCampaigns", request.filter)
        position = self._page_tokens.read(request.page_token, query)
        found, more = await read_campaigns.list_campaigns(
            self._pool,
            caller,
            where,
            before=None if position is None else UUID(bytes=position),
            limit=size + 1,
            bytes_max=PAGE_BYTES_MAX,
        )
        campaigns = [campaign_to_proto(campaign) for campaign in found[:size]]
        shown = fitting(campaigns)
        token = ""
        if shown < len(found) or more:
            token = self._page_tokens.make(found[shown - 1].id.bytes, query)
        return campaign_pb2.ListCampaignsResponse(
            campaigns=campaigns[:shown], next_page_token=token
        )

    async def UpdateCampaign(
        self, request: campaign_pb2.UpdateCampaignRequest, context: object
    ) -> campaign_pb2.Campaign:
        caller, fields = current_caller(), Fields()
        command = update_of(fields, request)
        key = request_key(fields, caller, "UpdateCampaign", request, request.request_id)
        fields.check()

        campaign = await self._update(caller, command, key, validate_only=request.validate_only)
        if not request.validate_only:
            await self._wake(caller, campaign)
        return campaign

    async def _update(
        self, caller: Caller, command: UpdateCommand, key: RequestKey | None, *, validate_only: bool
    ) -> campaign_pb2.Campaign:
        for _ in range(ROUNDS_MAX):
            with suppress(TemplateChangedError):
                return await self._compile_and_update(caller, command, key, validate_only)
        raise OutreachError("ETAG_MISMATCH", "Others keep changing the campaign; try again.")

    async def _compile_and_update(
        self, caller: Caller, command: UpdateCommand, key: RequestKey | None, validate_only: bool
    ) -> campaign_pb2.Campaign:
        prepared = await compile_edit(self._pool, caller, command, self._compiler)

        async def update(connection: Connection) -> campaign_pb2.Campaign:
            return campaign_to_proto(await update_campaign(connection, caller, command, prepared))

        return await self._once(key, campaign_pb2.Campaign, update, validate_only=validate_only)

    async def GetDisclaimer(
        self, request: campaign_pb2.GetDisclaimerRequest, context: object
    ) -> campaign_pb2.Disclaimer:
        return campaign_pb2.Disclaimer(version=DISCLAIMER_VERSION, points=DISCLAIMER_POINTS)

    async def RunCampaign(
        self, request: campaign_pb2.RunCampaignRequest, context: object
    ) -> campaign_pb2.Campaign:
        caller, fields = current_caller(), Fields()
        command = run_of(fields, request)
        key = request_key(fields, caller, "RunCampaign", request, request.request_id)
        fields.check()
        campaign = await self._run(caller, command, key, validate_only=request.validate_only)
        if not request.validate_only:
            self._on_run()
            await self._wake(caller, campaign)
        return campaign

    async def _run(
        self, caller: Caller, command: RunCommand, key: RequestKey | None, *, validate_only: bool
    ) -> campaign_pb2.Campaign:
        async def run(connection: Connection) -> campaign_pb2.Campaign:
            before = await stored_campaign(connection, caller.organisation_id, command.campaign_id)
            after = await run_campaign(connection, caller, command)
            # Nothing was run: the campaign is shown as it is.
            return campaign_to_proto(before if validate_only and before else after)

        return await self._with_channel(
            caller,
            command.campaign_id,
            lambda: self._once(key, campaign_pb2.Campaign, run, validate_only=validate_only),
        )

    async def _with_channel(
        self, caller: Caller, campaign_id: UUID, take: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """What `take` answers; CHANNEL_BUSY naming the campaign that holds the channel."""
        for _ in range(_RUN_ATTEMPTS_MAX):
            try:
                return await take()
            except ChannelTakenError:
                busy = await channel_busy(self._pool, caller, campaign_id)
                if busy is not None:
                    raise busy from None
        raise OutreachError("CHANNEL_BUSY", "Other campaigns keep taking the channel.")

    async def StopCampaign(
        self, request: campaign_pb2.StopCampaignRequest, context: object
    ) -> campaign_pb2.Campaign:
        caller, fields = current_caller(), Fields()
        command = stop_of(fields, request)
        key = request_key(fields, caller, "StopCampaign", request, request.request_id)
        fields.check()

        async def stop(connection: Connection) -> campaign_pb2.Campaign:
            return campaign_to_proto(await stop_campaign(connection, caller, command))

        campaign = await self._once(key, campaign_pb2.Campaign, stop)
        reached("stop-committed")
        await self._on_stop(Channel(campaign.channel), command.campaign_id, campaign.run)
        await self._wake(caller, campaign)
        return campaign

    async def RetryMessages(
        self, request: campaign_pb2.RetryMessagesRequest, context: object
    ) -> campaign_pb2.RetryMessagesResponse:
        caller, fields = current_caller(), Fields()
        command = retry_of(fields, request)
        key = request_key(fields, caller, "RetryMessages", request, request.request_id)
        fields.check()
        answer = await self._retry(caller, command, key, validate_only=request.validate_only)
        reached("retry-committed")
        if not request.validate_only:
            self._on_run()
            await self._wake(caller, answer.campaign)
        return answer

    async def _retry(
        self, caller: Caller, command: RetryCommand, key: RequestKey | None, *, validate_only: bool
    ) -> campaign_pb2.RetryMessagesResponse:
        async def retry(connection: Connection) -> campaign_pb2.RetryMessagesResponse:
            before = await stored_campaign(connection, caller.organisation_id, command.campaign_id)
            retried = await retry_messages(connection, caller, command, validate_only=validate_only)
            shown = before if validate_only and before else retried.campaign
            return campaign_pb2.RetryMessagesResponse(
                campaign=campaign_to_proto(shown),
                retried=retried.messages,
                not_retryable=retried.not_retryable,
            )

        answer_type = campaign_pb2.RetryMessagesResponse
        return await self._with_channel(
            caller,
            command.campaign_id,
            lambda: self._once(key, answer_type, retry, validate_only=validate_only),
        )

    async def DeleteCampaign(
        self, request: campaign_pb2.DeleteCampaignRequest, context: object
    ) -> campaign_pb2.DeleteCampaignResponse:
        caller, fields = current_caller(), Fields()
        command = DeleteCommand(fields.uuid("id", request.id), request.etag)
        key = request_key(fields, caller, "DeleteCampaign", request, request.request_id)
        fields.check()

        async def delete(connection: Connection) -> campaign_pb2.DeleteCampaignResponse:
            await delete_campaign(connection, caller, command)
            return campaign_pb2.DeleteCampaignResponse()

        answer = await self._once(key, campaign_pb2.DeleteCampaignResponse, delete)
        self._on_delete()
        # Whoever watches it looks, and finds it gone.
        await self._wakeups.campaign_changed(caller.organisation_id, command.campaign_id, 0)
        return answer

    async def PreviewCampaign(
        self, request: campaign_pb2.PreviewCampaignRequest, context: object
    ) -> campaign_pb2.PreviewCampaignResponse:
        fields = Fields()
        campaign_id = fields.uuid("id", request.id)
        who = previewed_of(fields, request)
        fields.check()
        return preview_to_proto(
            await preview_campaign(self._pool, current_caller(), campaign_id, who)
        )

    async def EstimateCampaign(
        self, request: campaign_pb2.EstimateCampaignRequest, context: object
    ) -> campaign_pb2.EstimateCampaignResponse:
        campaign_id = _campaign_id(request.id)
        return estimate_to_proto(await estimate_campaign(self._pool, current_caller(), campaign_id))

    async def _wake(self, caller: Caller, campaign: campaign_pb2.Campaign) -> None:
        await self._wakeups.campaign_changed(
            caller.organisation_id, UUID(campaign.id), campaign.revision
        )


def _campaign_id(text: str) -> UUID:
    fields = Fields()
    campaign_id = fields.uuid("id", text)
    fields.check()
    return campaign_id
