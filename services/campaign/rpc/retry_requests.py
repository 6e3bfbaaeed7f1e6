"""Requests that end a run or begin another one, read and checked."""

from collections.abc import Sequence

from outreach.v1 import campaign_pb2
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.rpc.fields import Fields
from services.campaign.usecases.retry_messages import (
    NUMBERS_MAX,
    RETRYABLE_STATUSES,
    RetryCommand,
)
from services.campaign.usecases.stop_campaign import StopCommand

#: Of many wrong numbers the first are told.
_VIOLATIONS_MAX = 20


def stop_of(fields: Fields, request: campaign_pb2.StopCampaignRequest) -> StopCommand:
    """Which campaign to stop."""
    return StopCommand(campaign_id=fields.uuid("id", request.id), etag=request.etag)


def retry_of(fields: Fields, request: campaign_pb2.RetryMessagesRequest) -> RetryCommand:
    """Which messages to retry, and what is accepted."""
    campaign_id = fields.uuid("campaign_id", request.campaign_id)
    chosen = request.WhichOneof("messages")
    numbers: tuple[int, ...] = ()
    statuses: tuple[MessageStatus, ...] = (MessageStatus.FAILED,)
    reasons: tuple[FailureReason, ...] = ()
    if chosen == "numbers":
        numbers = _numbers_of(fields, request.numbers.numbers)
    elif chosen == "filter":
        statuses = _statuses_of(fields, request.filter)
        reasons = fields.choices(
            "filter.failure_reasons", request.filter.failure_reasons, FailureReason
        )
        if reasons and MessageStatus.FAILED not in statuses:
            fields.refuse(
                "filter.failure_reasons", "FIELD_INVALID", "Only FAILED messages have a reason."
            )
    else:
        fields.refuse(
            "messages", "FIELD_REQUIRED", "Give the messages' numbers, or a filter for them."
        )
    return RetryCommand(
        campaign_id=campaign_id,
        accepted_disclaimer_version=request.accepted_disclaimer_version,
        etag=request.etag,
        numbers=numbers,
        statuses=statuses,
        failure_reasons=reasons,
        force=request.force,
    )


def _numbers_of(fields: Fields, numbers: Sequence[int]) -> tuple[int, ...]:
    if not numbers:
        fields.refuse("numbers.numbers", "FIELD_REQUIRED", "Give at least one number.")
    if len(numbers) > NUMBERS_MAX:
        fields.refuse(
            "numbers.numbers", "FIELD_TOO_LONG", f"At most {NUMBERS_MAX:,} numbers; use a filter."
        )
        return ()
    first: dict[int, int] = {}
    repeated = [i for i, number in enumerate(numbers) if first.setdefault(number, i) != i]
    for index in repeated[:_VIOLATIONS_MAX]:
        fields.refuse(f"numbers.numbers[{index}]", "FIELD_INVALID", "This number is there twice.")
    return tuple(numbers)


def _statuses_of(fields: Fields, where: campaign_pb2.RetryFilter) -> tuple[MessageStatus, ...]:
    statuses = fields.choices("filter.statuses", where.statuses, MessageStatus)
    for index, status in enumerate(statuses):
        if status not in RETRYABLE_STATUSES:
            fields.refuse(
                f"filter.statuses[{index}]",
                "FIELD_INVALID",
                "Only FAILED and CANCELLED messages can be retried.",
            )
    return statuses or (MessageStatus.FAILED,)
