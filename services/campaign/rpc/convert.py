"""Records as the public protos."""

from datetime import datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from outreach.template.segments import SegmentCount, SmsEncoding
from outreach.v1 import campaign_pb2, channel_pb2, failure_reason_pb2, message_pb2
from services.campaign.domain.content import SmsContent
from services.campaign.domain.etag import etag_of
from services.campaign.domain.failures import is_retryable
from services.campaign.domain.lifecycle import Counts, allowed_actions
from services.campaign.rpc.email_protos import email_to_proto, warning_to_proto
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord
from services.campaign.store.messages import MessageRecord
from services.campaign.usecases.guards import require_campaign

_ENCODINGS = {
    SmsEncoding.GSM_7: campaign_pb2.SMS_ENCODING_GSM_7,
    SmsEncoding.UCS_2: campaign_pb2.SMS_ENCODING_UCS_2,
}


async def load_campaign(
    connection: Connection, organisation_id: UUID, campaign_id: UUID
) -> campaign_pb2.Campaign:
    """The campaign as callers see it. CAMPAIGN_NOT_FOUND: also when it is another organisation's."""
    return campaign_to_proto(await require_campaign(connection, organisation_id, campaign_id))


def campaign_to_proto(campaign: CampaignRecord) -> campaign_pb2.Campaign:
    """A whole campaign."""
    message = campaign_pb2.Campaign(
        id=str(campaign.id),
        name=campaign.name,
        description=campaign.description,
        channel=channel_pb2.Channel.ValueType(campaign.channel),
        missing_variable_policy=campaign_pb2.MissingVariablePolicy.ValueType(
            campaign.missing_variable_policy
        ),
        status=campaign_pb2.CampaignStatus.ValueType(campaign.status),
        counts=counts_to_proto(campaign.counts),
        revision=campaign.revision,
        allowed_actions=[
            campaign_pb2.CampaignAction.ValueType(action)
            for action in allowed_actions(
                campaign.status, campaign.counts, stopped=campaign.stop_time is not None
            )
        ],
        etag=etag_of(campaign.id, campaign.version),
        columns=[
            campaign_pb2.ContactColumn(
                name=column.name,
                role=campaign_pb2.ColumnRole.ValueType(column.role),
                variable_name=column.variable_name,
            )
            for column in campaign.columns
        ],
        template_problems=[
            campaign_pb2.TemplateProblem(
                field=problem.field, reason=problem.reason, description=problem.description
            )
            for problem in campaign.problems
        ],
        run=campaign.run,
        create_time=timestamp(campaign.create_time),
        update_time=timestamp(campaign.update_time),
        start_time=timestamp(campaign.start_time),
        stop_time=timestamp(campaign.stop_time),
        end_time=timestamp(campaign.end_time),
    )
    if isinstance(campaign.content, SmsContent):
        message.sms.CopyFrom(sms_to_proto(campaign.content))
    else:
        message.email.CopyFrom(email_to_proto(campaign.content))
    _add_outcomes(message, campaign)
    return message


def _add_outcomes(message: campaign_pb2.Campaign, campaign: CampaignRecord) -> None:
    """The parts that are only there after a compilation, after an import and after a failure."""
    if campaign.report is not None:
        message.template_warnings.extend(map(warning_to_proto, campaign.report.warnings))
        message.email_size.html_bytes = campaign.report.html_bytes
        message.email_size.text_bytes = campaign.report.text_bytes
    if campaign.contacts is not None:
        message.contacts.CopyFrom(
            campaign_pb2.ContactSummary(
                rows=campaign.contacts.rows,
                imported=campaign.contacts.imported,
                invalid=campaign.contacts.invalid,
                duplicates=campaign.contacts.duplicates,
                import_time=timestamp(campaign.contacts.time),
            )
        )
    if campaign.failure is not None:
        message.failure.CopyFrom(
            campaign_pb2.CampaignFailure(
                reason=failure_reason_pb2.FailureReason.ValueType(campaign.failure.reason),
                description=campaign.failure.text,
                provider_code=campaign.failure.code,
            )
        )


def counts_to_proto(counts: Counts) -> campaign_pb2.StatusCounts:
    """Counts with their total."""
    return campaign_pb2.StatusCounts(
        waiting=counts.waiting,
        queued=counts.queued,
        sending=counts.sending,
        sent=counts.sent,
        retrying=counts.retrying,
        delivered=counts.delivered,
        assumed_delivered=counts.assumed_delivered,
        failed=counts.failed,
        opted_out=counts.opted_out,
        cancelled=counts.cancelled,
        total=counts.total,
    )


def sms_to_proto(content: SmsContent) -> campaign_pb2.SmsContent:
    """An SMS campaign's content."""
    message = campaign_pb2.SmsContent(body=content.body)
    if content.sender is not None:
        if content.sender.messaging_service_sid is not None:
            message.sender.messaging_service_sid = content.sender.messaging_service_sid
        elif content.sender.from_ is not None:
            # `from` is a keyword of Python.
            setattr(message.sender, "from", content.sender.from_)
    if content.validity_seconds is not None:
        message.validity_period.FromMilliseconds(round(content.validity_seconds * 1000))
    return message


def message_to_proto(
    campaign_id: UUID, record: MessageRecord, variable_names: tuple[str, ...]
) -> message_pb2.Message:
    """A message with its contact's values."""
    return message_pb2.Message(
        campaign_id=str(campaign_id),
        number=record.number,
        recipient=record.recipient,
        variables={
            name: value
            for name, value in zip(variable_names, record.variables, strict=True)
            if value is not None
        },
        status=message_pb2.MessageStatus.ValueType(record.status),
        failure_reason=failure_reason_pb2.FailureReason.ValueType(record.failure_reason or 0),
        provider_code=record.provider_code or "",
        retryable=is_retryable(record.status, record.failure_reason),
        provider_message_id=record.provider_message_id or "",
        run=record.run,
        attempt=record.attempt,
        segments=record.segments,
        claim_time=timestamp(record.claim_time),
        update_time=timestamp(record.update_time),
    )


def size_to_proto(size: SegmentCount) -> campaign_pb2.SmsSize:
    """Encoding, units and segments of a text."""
    return campaign_pb2.SmsSize(
        encoding=_ENCODINGS[size.encoding], units=size.units, segments=size.segments
    )


def timestamp(time: datetime | None) -> Timestamp | None:
    """None stays not set."""
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message
