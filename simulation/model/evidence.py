"""What reports say of messages, and of attempts that a retry has followed."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from outreach.vocabulary import MessageStatus
from services.campaign.delivery.changes import QUERIES
from simulation.model.registry import moved, statement
from simulation.model.tables import Message
from simulation.model.transactions import Row, Transaction
from simulation.model.work import changing

S = MessageStatus


class Report(NamedTuple):
    """A row of those that both statements unnest."""

    number: int
    attempt: int
    status: MessageStatus
    late_status: MessageStatus
    failure_reason: int | None
    provider_code: str | None
    provider_message_id: str | None
    segments: int


def _reports(columns: Sequence[Any]) -> tuple[list[Report], Sequence[int]]:
    """And the permitted edges, which stand before the last column."""
    *most, edges, segments = columns
    return [Report(*row) for row in zip(*most, segments, strict=True)], edges


def is_about(message: Message, report: Report) -> bool:
    """Whether a report is about a message's latest attempt."""
    return message.attempt == report.attempt


@statement(QUERIES)
def apply_reports(transaction: Transaction, campaign_id: UUID, *columns: Any) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    reports, edges = _reports(columns)
    rows = []
    for report in reports:
        message = campaign.messages.get(report.number)
        if message is None or not is_about(message, report):
            continue
        after = _told(transaction, message, report, _target(message, report, edges))
        if after is message:
            continue
        campaign.messages[report.number] = after
        reason = after.failure_reason or 0
        rows.append(moved(after.number, after.attempt, message.status, after.status, reason))
    return rows


@statement(QUERIES)
def apply_reports_to_kept_attempts(
    transaction: Transaction, campaign_id: UUID, *columns: Any
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    reports, edges = _reports(columns)
    for report in reports:
        key = (report.number, report.attempt)
        kept = campaign.attempts.get(key)
        if kept is None:
            continue
        target = _target(kept, report, edges)
        is_identified = kept.provider_message_id is None and report.provider_message_id is not None
        if target is not None or is_identified:
            campaign.attempts[key] = _told(transaction, kept, report, target)
    return []


def _target(message: Message, report: Report, edges: Sequence[int]) -> MessageStatus | None:
    """Where a report moves a message, along the permitted edges; None: nowhere."""
    if message.status * 100 + report.status in edges:
        return report.status
    if message.failure_reason is not None:
        code = message.failure_reason * 10_000 + message.status * 100 + report.late_status
        if code in edges:
            return report.late_status
    return None


def _told(
    transaction: Transaction, message: Message, report: Report, target: MessageStatus | None
) -> Message:
    """What is known of an attempt after a report; the same value when the report says nothing new."""
    known_id = message.provider_message_id
    after = message._replace(
        provider_message_id=report.provider_message_id if known_id is None else known_id,
        segments=max(message.segments, report.segments),
    )
    if target is not None:
        did_not_fail = message.status is S.FAILED and target is not S.FAILED
        keeps_code = report.provider_code is None and not did_not_fail
        after = after._replace(
            status=target,
            failure_reason=report.failure_reason,
            provider_code=message.provider_code if keeps_code else report.provider_code,
            update_time=transaction.now,
        )
        assert (after.status is S.FAILED) == (after.failure_reason is not None)
    return message if after == message and target is None else after


@statement(QUERIES)
def settle_arrived(
    transaction: Transaction, campaign_id: UUID, first: int, last: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    rows = []
    for number in range(first, last + 1):
        message, arrived = campaign.messages.get(number), campaign.arrived(number)
        if message is None or arrived is None or message.status is not S.QUEUED:
            continue
        campaign.messages[number] = message._replace(
            status=arrived.status,
            claim_time=arrived.claim_time,
            update_time=transaction.now,
            provider_message_id=arrived.provider_message_id,
            provider_code=arrived.provider_code,
            segments=arrived.segments,
        )
        rows.append(moved(number, message.attempt, S.QUEUED, arrived.status))
    return rows
