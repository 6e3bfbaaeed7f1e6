"""Requests of CampaignService, read and checked."""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from outreach.v1 import campaign_pb2
from outreach.vocabulary import CampaignStatus, Channel, MissingVariablePolicy
from services.campaign.domain.content import Content, Draft, SmsContent, SmsSender
from services.campaign.domain.draft_rules import NAME_CHARACTERS_MAX
from services.campaign.domain.edit import Proposed
from services.campaign.rpc.email_requests import email_of
from services.campaign.rpc.fields import Fields
from services.campaign.usecases.read_campaigns import CampaignFilter
from services.campaign.usecases.run_campaign import RunCommand
from services.campaign.usecases.update_campaign import UpdateCommand

_CONTENT_OF: Mapping[int, str] = {Channel.SMS: "sms", Channel.EMAIL: "email"}
#: What may be given for a preview; far above what a contact may have.
PREVIEW_VALUE_CHARACTERS_MAX = 4_096


def draft_of(fields: Fields, campaign: campaign_pb2.Campaign) -> Draft:
    """The campaign to create."""
    channel = fields.choice("campaign.channel", campaign.channel, Channel, None)
    given = campaign.WhichOneof("content")
    if given not in (None, _CONTENT_OF.get(campaign.channel, given)):
        fields.refuse(
            f"campaign.{given}",
            "FIELD_INVALID",
            f"A campaign on {channel.name} has its content in `{_CONTENT_OF[channel]}`.",
        )
    content: Content = (
        _sms_of(campaign.sms) if channel is Channel.SMS else email_of(fields, campaign.email)
    )
    return Draft(
        name=campaign.name.strip(),
        description=campaign.description,
        channel=channel,
        content=content,
        missing_variable_policy=_policy_of(fields, campaign),
    )


def update_of(fields: Fields, request: campaign_pb2.UpdateCampaignRequest) -> UpdateCommand:
    """What to change."""
    campaign = request.campaign
    return UpdateCommand(
        campaign_id=fields.uuid("campaign.id", campaign.id),
        proposed=Proposed(
            name=campaign.name.strip(),
            description=campaign.description,
            sms=_sms_of(campaign.sms),
            email=email_of(fields, campaign.email),
            missing_variable_policy=_policy_of(fields, campaign),
        ),
        paths=tuple(request.update_mask.paths),
        etag=campaign.etag,
    )


def run_of(fields: Fields, request: campaign_pb2.RunCampaignRequest) -> RunCommand:
    """Which campaign to run, and what is accepted."""
    return RunCommand(
        campaign_id=fields.uuid("id", request.id),
        accepted_disclaimer_version=request.accepted_disclaimer_version,
        etag=request.etag,
    )


def filter_of(fields: Fields, where: campaign_pb2.CampaignFilter) -> CampaignFilter:
    """Which campaigns to list."""
    return CampaignFilter(
        channel=fields.choice("filter.channel", where.channel, Channel, None)
        if where.channel
        else None,
        statuses=fields.choices("filter.statuses", where.statuses, CampaignStatus),
        name_contains=fields.text("filter.name_contains", where.name_contains, NAME_CHARACTERS_MAX),
    )


def previewed_of(
    fields: Fields, request: campaign_pb2.PreviewCampaignRequest
) -> int | Mapping[str, str]:
    """Whose message to show: a message number, or made-up values."""
    if request.WhichOneof("contact") == "message_number":
        if request.message_number < 1:
            fields.refuse("message_number", "FIELD_OUT_OF_RANGE", "Messages are numbered from 1.")
        return request.message_number
    for value in request.values.variables.values():
        fields.text("values.variables", value, PREVIEW_VALUE_CHARACTERS_MAX)
    return dict(request.values.variables)


def _policy_of(fields: Fields, campaign: campaign_pb2.Campaign) -> MissingVariablePolicy:
    return fields.choice(
        "campaign.missing_variable_policy",
        campaign.missing_variable_policy,
        MissingVariablePolicy,
        MissingVariablePolicy.KEEP_PLACEHOLDER,
    )


def _sms_of(content: campaign_pb2.SmsContent) -> SmsContent:
    sender = None
    if content.HasField("sender"):
        kind = content.sender.WhichOneof("sender")
        sender = SmsSender(
            messaging_service_sid=content.sender.messaging_service_sid
            if kind == "messaging_service_sid"
            else None,
            from_=getattr(content.sender, "from") if kind == "from" else None,
        )
    return SmsContent(
        body=content.body,
        sender=sender,
        validity_seconds=_seconds(content.validity_period)
        if content.HasField("validity_period")
        else None,
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
