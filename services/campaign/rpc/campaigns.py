"""CampaignService."""

from collections.abc import Callable
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from outreach.errors import OutreachError
from outreach.rpc.call import Caller, current_caller
from outreach.v1 import campaign_pb2, campaign_pb2_grpc
from services.campaign.delivery.changes import Wakeups
from services.campaign.domain.content import check_draft
from services.campaign.domain.disclaimer import DISCLAIMER_POINTS, DISCLAIMER_VERSION
from services.campaign.rpc.campaign_requests import (
    draft_of,
    filter_of,
    previewed_of,
    run_of,
    update_of,
)
from services.campaign.rpc.convert import campaign_to_proto, size_to_proto
from services.campaign.rpc.fields import Fields, query_hash, request_key
from services.campaign.rpc.pages import PageTokens, fitting
from services.campaign.store import Connection, Pool
from services.campaign.store.campaigns import get_campaign as stored_campaign
from services.campaign.store.requests import RequestKey
from services.campaign.usecases import read_campaigns
from services.campaign.usecases.create_campaign import create_campaign
from services.campaign.usecases.estimate_campaign import Estimate, estimate_campaign
from services.campaign.usecases.once import Once
from services.campaign.usecases.preview_campaign import preview_campaign
from services.campaign.usecases.run_campaign import (
    ChannelTakenError,
    RunCommand,
    channel_busy,
    run_campaign,
)
from services.campaign.usecases.update_campaign import update_campaign

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
        on_run: Callable[[], None],
    ) -> None:
        """`on_run`: called after a run was committed, so that it is dispatched at once."""
        self._pool = pool
        self._once = Once(pool)
        self._page_tokens = page_tokens
        self._wakeups = wakeups
        self._on_run = on_run

    async def CreateCampaign(
        self, request: campaign_pb2.CreateCampaignRequest, context: object
    ) -> campaign_pb2.Campaign:
        caller, fields = current_caller(), Fields()
        draft = draft_of(fields, request.campaign)
        key = request_key(fields, caller, "CreateCampaign", request, request.request_id)
        if fields.violations:
            # What the domain finds is told together with what could not be read.
            fields.violations += check_draft(draft, None).violations
        fields.check()

        async def create(connection: Connection) -> campaign_pb2.Campaign:
            return campaign_to_proto(await create_campaign(connection, caller, draft))

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
        found = await read_campaigns.list_campaigns(
            self._pool,
            caller,
            where,
            before=None if position is None else UUID(bytes=position),
            limit=size + 1,
        )
        campaigns = [campaign_to_proto(campaign) for campaign in found[:size]]
        shown = fitting(campaigns)
        token = ""
        if shown < len(found):
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

        async def update(connection: Connection) -> campaign_pb2.Campaign:
            return campaign_to_proto(await update_campaign(connection, caller, command))

        campaign = await self._once(
            key, campaign_pb2.Campaign, update, validate_only=request.validate_only
        )
        if not request.validate_only:
            await self._wake(caller, campaign)
        return campaign

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

        for _ in range(_RUN_ATTEMPTS_MAX):
            try:
                return await self._once(
                    key, campaign_pb2.Campaign, run, validate_only=validate_only
                )
            except ChannelTakenError:
                busy = await channel_busy(self._pool, caller, command.campaign_id)
                if busy is not None:
                    raise busy from None
        raise OutreachError("CHANNEL_BUSY", "Other campaigns keep taking the channel.")

    async def PreviewCampaign(
        self, request: campaign_pb2.PreviewCampaignRequest, context: object
    ) -> campaign_pb2.PreviewCampaignResponse:
        fields = Fields()
        campaign_id = fields.uuid("id", request.id)
        who = previewed_of(fields, request)
        fields.check()
        preview = await preview_campaign(self._pool, current_caller(), campaign_id, who)
        if preview is None:
            return campaign_pb2.PreviewCampaignResponse()
        return campaign_pb2.PreviewCampaignResponse(
            sms=campaign_pb2.SmsPreview(text=preview.text, size=size_to_proto(preview.size)),
            missing_variables=preview.missing_variables,
        )

    async def EstimateCampaign(
        self, request: campaign_pb2.EstimateCampaignRequest, context: object
    ) -> campaign_pb2.EstimateCampaignResponse:
        campaign_id = _campaign_id(request.id)
        return _estimate_to_proto(
            await estimate_campaign(self._pool, current_caller(), campaign_id)
        )

    async def _wake(self, caller: Caller, campaign: campaign_pb2.Campaign) -> None:
        await self._wakeups.campaign_changed(
            caller.organisation_id, UUID(campaign.id), campaign.revision
        )


def _campaign_id(text: str) -> UUID:
    fields = Fields()
    campaign_id = fields.uuid("id", text)
    fields.check()
    return campaign_id


def _estimate_to_proto(estimate: Estimate) -> campaign_pb2.EstimateCampaignResponse:
    message = campaign_pb2.EstimateCampaignResponse(
        to_send=estimate.to_send, suppressed=estimate.suppressed
    )
    counted, terms = estimate.sms, estimate.terms
    if counted is None or estimate.template_size is None:
        return message
    message.missing_variables = counted.missing_variables
    message.missing_by_variable.update(counted.missing_by_variable)
    message.skipped = counted.skipped
    message.too_long = counted.too_long
    message.sms.template.CopyFrom(size_to_proto(estimate.template_size))
    message.sms.segments_min = counted.segments_min
    message.sms.segments_mean = counted.segments_mean
    message.sms.segments_max = counted.segments_max
    message.sms.segments_total = counted.segments_total
    if terms is not None and terms.price_per_segment_micros is not None:
        message.sms.cost.currency_code = terms.currency_code or ""
        message.sms.cost.amount_micros = counted.segments_total * terms.price_per_segment_micros
    if terms is not None and terms.segments_per_second_max is not None:
        seconds = counted.segments_total / terms.segments_per_second_max
        duration = Duration()
        duration.FromMilliseconds(round(seconds * 1000))
        message.sms.sending_time.CopyFrom(duration)
    return message
