"""The calls of `outreach.v1.CampaignService`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property

from google.protobuf.field_mask_pb2 import FieldMask

from outreach.client.connection import Connection, new_request_id
from outreach.v1 import campaign_pb2, campaign_pb2_grpc
from outreach.v1.channel_pb2 import CHANNEL_SMS, CHANNEL_UNSPECIFIED, Channel
from outreach.v1.failure_reason_pb2 import FailureReason
from outreach.v1.message_pb2 import MessageStatus

_PAGE_SIZE_MAX = 200


class CampaignCalls(Connection):
    """Create, look at, change, run, stop, retry and delete campaigns.

    Every call raises `CallError`; which reasons a call can have is in `campaign.proto`. Mutating
    calls make a `request_id` unless one is given, and repeat themselves with it.
    """

    async def create_campaign(
        self,
        *,
        name: str,
        channel: Channel.ValueType = CHANNEL_SMS,
        description: str = "",
        sms: campaign_pb2.SmsContent | None = None,
        email: campaign_pb2.EmailContent | None = None,
        missing_variable_policy: campaign_pb2.MissingVariablePolicy.ValueType = (
            campaign_pb2.MISSING_VARIABLE_POLICY_UNSPECIFIED
        ),
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> campaign_pb2.Campaign:
        """Create a campaign; give the content of its channel, `sms` or `email`, or none yet.

        An email that is not finished is kept all the same: `template_problems` says what is missing,
        `template_warnings` what to look at.
        """
        campaign = campaign_pb2.Campaign(
            name=name,
            channel=channel,
            description=description,
            sms=sms,
            email=email,
            missing_variable_policy=missing_variable_policy,
        )
        request = campaign_pb2.CreateCampaignRequest(
            campaign=campaign,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        return await self._call(self._campaigns.CreateCampaign, request)

    async def get_campaign(self, campaign_id: str) -> campaign_pb2.Campaign:
        """The campaign as it is now."""
        request = campaign_pb2.GetCampaignRequest(id=campaign_id)
        return await self._call(self._campaigns.GetCampaign, request)

    async def list_campaigns(
        self,
        *,
        channel: Channel.ValueType = CHANNEL_UNSPECIFIED,
        statuses: Sequence[campaign_pb2.CampaignStatus.ValueType] = (),
        name_contains: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> campaign_pb2.ListCampaignsResponse:
        """One page, newest first; `all_campaigns` reads every page."""
        request = campaign_pb2.ListCampaignsRequest(
            page_size=page_size,
            page_token=page_token,
            filter=campaign_pb2.CampaignFilter(
                channel=channel, statuses=statuses, name_contains=name_contains
            ),
        )
        return await self._call(self._campaigns.ListCampaigns, request)

    async def all_campaigns(
        self,
        *,
        channel: Channel.ValueType = CHANNEL_UNSPECIFIED,
        statuses: Sequence[campaign_pb2.CampaignStatus.ValueType] = (),
        name_contains: str = "",
    ) -> AsyncIterator[campaign_pb2.Campaign]:
        """Every campaign that matches, newest first, page after page."""
        page_token = ""
        while True:
            page = await self.list_campaigns(
                channel=channel,
                statuses=statuses,
                name_contains=name_contains,
                page_size=_PAGE_SIZE_MAX,
                page_token=page_token,
            )
            for campaign in page.campaigns:
                yield campaign
            page_token = page.next_page_token
            if not page_token:
                return

    async def update_campaign(
        self,
        campaign_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        sms: campaign_pb2.SmsContent | None = None,
        email: campaign_pb2.EmailContent | None = None,
        missing_variable_policy: campaign_pb2.MissingVariablePolicy.ValueType | None = None,
        update_mask: Sequence[str] | None = None,
        etag: str = "",
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> campaign_pb2.Campaign:
        """Change what is given and leave the rest.

        `update_mask` names paths, to change less than what is given (`["sms.body"]`,
        `["email.mjml"]` for another body of an email) or to empty a field; without it every
        argument that is not None counts. With an `etag` the change is refused (ETAG_MISMATCH)
        when the campaign is not that one any more.
        """
        changes = {
            "name": name,
            "description": description,
            "sms": sms,
            "email": email,
            "missing_variable_policy": missing_variable_policy,
        }
        paths = [path for path, value in changes.items() if value is not None]
        campaign = campaign_pb2.Campaign(
            id=campaign_id,
            name=name or "",
            description=description or "",
            sms=sms,
            email=email,
            missing_variable_policy=missing_variable_policy
            or campaign_pb2.MISSING_VARIABLE_POLICY_UNSPECIFIED,
            etag=etag,
        )
        request = campaign_pb2.UpdateCampaignRequest(
            campaign=campaign,
            update_mask=FieldMask(paths=paths if update_mask is None else update_mask),
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        return await self._call(self._campaigns.UpdateCampaign, request)

    async def get_disclaimer(self) -> campaign_pb2.Disclaimer:
        """The text that whoever runs a campaign declares, and its version."""
        request = campaign_pb2.GetDisclaimerRequest()
        return await self._call(self._campaigns.GetDisclaimer, request)

    async def run_campaign(
        self,
        campaign_id: str,
        *,
        accepted_disclaimer_version: str,
        etag: str = "",
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> campaign_pb2.Campaign:
        """Start sending.

        `accepted_disclaimer_version` is from `get_disclaimer`, whose four points the person who
        runs the campaign has seen and accepted. With an `etag` the run is refused when the
        campaign is not that one any more.
        """
        request = campaign_pb2.RunCampaignRequest(
            id=campaign_id,
            request_id=request_id or new_request_id(),
            accepted_disclaimer_version=accepted_disclaimer_version,
            etag=etag,
            validate_only=validate_only,
        )
        return await self._call(self._campaigns.RunCampaign, request)

    async def stop_campaign(
        self, campaign_id: str, *, etag: str = "", request_id: str | None = None
    ) -> campaign_pb2.Campaign:
        """End the sending at once.

        What no request to the provider has begun for is cancelled, in batches; what was handed over
        goes on to its end. With an `etag` the stop is refused when the campaign is not that one any
        more.
        """
        request = campaign_pb2.StopCampaignRequest(
            id=campaign_id, request_id=request_id or new_request_id(), etag=etag
        )
        return await self._call(self._campaigns.StopCampaign, request)

    async def retry_messages(
        self,
        campaign_id: str,
        *,
        accepted_disclaimer_version: str,
        numbers: Sequence[int] | None = None,
        statuses: Sequence[MessageStatus.ValueType] = (),
        failure_reasons: Sequence[FailureReason.ValueType] = (),
        force: bool = False,
        etag: str = "",
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> campaign_pb2.RetryMessagesResponse:
        """Queue messages again that failed or were cancelled, as a new run.

        Either these `numbers`, each of which must be one that may be retried, or all that match:
        FAILED ones unless `statuses` says otherwise, of any of `failure_reasons` when there are some.
        The CANCELLED ones resume a stopped campaign. What a retry makes no sense for is left out and
        counted, unless `force`d; with UNCONFIRMED a recipient may then get the message twice.
        """
        request = campaign_pb2.RetryMessagesRequest(
            campaign_id=campaign_id,
            request_id=request_id or new_request_id(),
            accepted_disclaimer_version=accepted_disclaimer_version,
            etag=etag,
            validate_only=validate_only,
            force=force,
        )
        if numbers is not None:
            request.numbers.CopyFrom(campaign_pb2.MessageNumbers(numbers=numbers))
        else:
            request.filter.CopyFrom(
                campaign_pb2.RetryFilter(statuses=statuses, failure_reasons=failure_reasons)
            )
        return await self._call(
            self._campaigns.RetryMessages,
            request,
            timeout_seconds=self.timeouts.retry_messages_seconds,
        )

    async def delete_campaign(
        self, campaign_id: str, *, etag: str = "", request_id: str | None = None
    ) -> None:
        """Remove it with its contacts, messages, template and attachments, for good.

        With an `etag` the deletion is refused when the campaign is not that one any more.
        """
        request = campaign_pb2.DeleteCampaignRequest(
            id=campaign_id, request_id=request_id or new_request_id(), etag=etag
        )
        await self._call(self._campaigns.DeleteCampaign, request)

    async def preview_campaign(
        self,
        campaign_id: str,
        *,
        message_number: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> campaign_pb2.PreviewCampaignResponse:
        """The message as the contact with this number gets it, or with made-up variables."""
        request = campaign_pb2.PreviewCampaignRequest(id=campaign_id)
        if message_number is not None:
            request.message_number = message_number
        else:
            request.values.CopyFrom(campaign_pb2.PreviewValues(variables=variables))
        return await self._call(self._campaigns.PreviewCampaign, request)

    async def estimate_campaign(self, campaign_id: str) -> campaign_pb2.EstimateCampaignResponse:
        """What a run would do and cost. Reads every contact: seconds for a large campaign."""
        request = campaign_pb2.EstimateCampaignRequest(id=campaign_id)
        return await self._call(
            self._campaigns.EstimateCampaign,
            request,
            timeout_seconds=self.timeouts.estimate_seconds,
        )

    @cached_property
    def _campaigns(self) -> campaign_pb2_grpc.CampaignServiceAsyncStub:
        return campaign_pb2_grpc.CampaignServiceStub(self._channel)
