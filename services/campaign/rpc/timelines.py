"""A message's timeline as the public protos."""

from uuid import UUID

from outreach.v1 import failure_reason_pb2, message_pb2
from services.campaign.rpc.convert import message_to_proto, timestamp
from services.campaign.store.timelines import AttemptRecord, ChangeRecord
from services.campaign.usecases.read_timeline import PART_BYTES_MAX, Timeline


def timeline_to_proto(campaign_id: UUID, timeline: Timeline) -> message_pb2.MessageTimeline:
    """Parts of an email that are too large are left out."""
    email = timeline.email
    return message_pb2.MessageTimeline(
        message=message_to_proto(campaign_id, timeline.message, timeline.variable_names),
        attempts=map(_attempt_to_proto, timeline.attempts),
        changes=map(_change_to_proto, timeline.changes),
        sms_text=timeline.sms_text,
        email_subject="" if email is None else _fitting(email.subject),
        email_html="" if email is None else _fitting(email.html),
        email_text="" if email is None else _fitting(email.text),
    )


def _fitting(part: str) -> str:
    return part if len(part.encode()) <= PART_BYTES_MAX else ""


def _attempt_to_proto(record: AttemptRecord) -> message_pb2.MessageAttempt:
    return message_pb2.MessageAttempt(
        attempt=record.attempt,
        run=record.run,
        claim_time=timestamp(record.claim_time),
        update_time=timestamp(record.update_time),
        status=message_pb2.MessageStatus.ValueType(record.status),
        failure_reason=failure_reason_pb2.FailureReason.ValueType(record.failure_reason or 0),
        provider_code=record.provider_code or "",
        provider_message_id=record.provider_message_id or "",
        segments=record.segments,
    )


def _change_to_proto(record: ChangeRecord) -> message_pb2.StatusChange:
    return message_pb2.StatusChange(
        time=timestamp(record.time),
        status=message_pb2.MessageStatus.ValueType(record.status),
        failure_reason=failure_reason_pb2.FailureReason.ValueType(record.failure_reason or 0),
        attempt=record.attempt,
    )
