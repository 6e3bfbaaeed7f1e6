"""Claims, attempts in doubt and ended instances: the statements that decide who is sent what."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from outreach.vocabulary import CampaignStatus, FailureReason, MessageStatus
from services.campaign.delivery.changes import QUERIES
from services.campaign.domain.lifecycle import Counts
from simulation.model.registry import moved, statement
from simulation.model.tables import NEVER, Campaign, Commit, Message, Suppression, Unknown
from simulation.model.transactions import Row, Transaction

S = MessageStatus


def changing(transaction: Transaction, campaign_id: UUID) -> Campaign:
    """A campaign whose row is held."""
    campaign = transaction.campaign(campaign_id)
    assert campaign is not None
    return campaign


def noted(campaign: Campaign, message: Message) -> Unknown | None:
    """The row of a message's latest attempt among those that are looked up."""
    unknown = campaign.unknown.get(message.number)
    return unknown if unknown is not None and unknown.attempt == message.attempt else None


def seconds_since(transaction: Transaction, time: float | None) -> float | None:
    """`now() - time`."""
    return None if time is None else transaction.now - time


@statement(QUERIES, locks_campaign=True)
def lock_campaign(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    if campaign is None:
        return []
    return [
        {
            "organisation_id": campaign.organisation_id,
            "channel": campaign.channel,
            "status": campaign.status,
            "run": campaign.run,
            "revision": campaign.revision,
            "stopped": campaign.stop_time is not None,
            "failed": campaign.failure_reason is not None,
            "ended": campaign.end_time is not None,
            **dict(zip(_COUNTS, campaign.counts.as_list(), strict=True)),
            "dispatch_epoch": campaign.dispatch_epoch,
            "dispatched_through": campaign.dispatched_through,
            "undispatched": campaign.undispatched,
            "segments_mean": 1.0,
            "since_dispatch_seconds": seconds_since(transaction, campaign.dispatch_time),
            "since_claim_seconds": seconds_since(transaction, campaign.claim_time),
        }
    ]


_COUNTS = [
    "failed_count" if status is MessageStatus.FAILED else status.name.lower()
    for status in MessageStatus
]


@statement(QUERIES)
def claim_messages(
    transaction: Transaction,
    campaign_id: UUID,
    first: int,
    last: int,
    limit: int,
    run: int,
    instance_id: UUID,
    organisation_id: UUID,
    channel: int,
    _bytes_max: int,
) -> Sequence[Row]:
    if instance_id in transaction.tables.ended_instances:
        return []
    campaign = changing(transaction, campaign_id)
    rows = []
    for number in range(first, last + 1):
        message = campaign.messages.get(number)
        if message is None or message.status is not S.QUEUED:
            continue
        contact = campaign.contacts[number]
        key = (organisation_id, channel, contact.recipient_hash)
        suppression = transaction.tables.suppressions.get(key)
        suppressed = suppression is not None and suppression.suppressed
        claimed = campaign.messages[number] = message._replace(
            status=S.OPTED_OUT if suppressed else S.SENDING,
            run=run,
            attempt=message.attempt + (not suppressed),
            claim_time=transaction.now,
            update_time=transaction.now,
            claimed_by=instance_id,
            provider_message_id=None,
            provider_code=None,
            segments=0,
        )
        is_retry = run > 1 and any(of == number for of, _ in campaign.attempts)
        rows.append(
            {
                "number": number,
                "attempt": claimed.attempt,
                "status": claimed.status,
                **_contact(campaign, number),
                "is_retry": is_retry,
                "size_bytes": 0,
            }
        )
        if len(rows) == limit:
            break
    return rows


def _contact(campaign: Campaign, number: int) -> dict[str, Any]:
    contact = campaign.contacts[number]
    return {
        "recipient": contact.recipient,
        "recipient_hash": contact.recipient_hash,
        "variables": (),
    }


@statement(QUERIES)
def content_hash(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    assert transaction.campaign(campaign_id) is not None
    return [{"content_hash": "hash-1"}]


@statement(QUERIES)
def note_unknown_attempts(
    transaction: Transaction,
    campaign_id: UUID,
    numbers: Sequence[int],
    attempts: Sequence[int],
    after_seconds: float,
    status: MessageStatus,
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    for number, attempt in zip(numbers, attempts, strict=True):
        message = campaign.messages[number]
        if message.attempt != attempt or message.status is not status:
            continue
        row = Unknown(number, attempt, transaction.now, 0, transaction.now + after_seconds)
        known = campaign.unknown.get(number)
        if known is None or known.attempt < attempt:
            campaign.unknown[number] = row
    return []


@statement(QUERIES)
def note_no_news(
    transaction: Transaction, campaign_id: UUID, numbers: Sequence[int], attempts: Sequence[int]
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    for number, attempt in zip(numbers, attempts, strict=True):
        message = campaign.messages[number]
        unknown = noted(campaign, message)
        if message.attempt == attempt and message.status is S.SENT and unknown is not None:
            campaign.unknown[number] = unknown._replace(next_look_up_time=NEVER)
    return []


@statement(QUERIES)
def release_unknown_attempts(
    transaction: Transaction, campaign_id: UUID, numbers: Sequence[int], attempts: Sequence[int]
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    for number, attempt in zip(numbers, attempts, strict=True):
        message = campaign.messages[number]
        if message.attempt == attempt and message.status is S.SENDING:
            campaign.messages[number] = message._replace(claimed_by=None)
    return []


@statement(QUERIES)
def hand_back_instance(
    transaction: Transaction,
    campaign_id: UUID,
    instance_id: UUID,
    numbers: Sequence[int],
    attempts: Sequence[int],
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    begun = set(zip(numbers, attempts, strict=True))
    rows = []
    for number, message in campaign.messages.items():
        if message.status is not S.SENDING or message.claimed_by != instance_id:
            continue
        if (number, message.attempt) in begun:
            continue
        campaign.messages[number] = message._replace(status=S.QUEUED, update_time=transaction.now)
        rows.append(moved(number, message.attempt, S.SENDING, S.QUEUED))
    return rows


@statement(QUERIES)
def end_instance(transaction: Transaction, instance_id: UUID) -> Sequence[Row]:
    transaction.at_commit(lambda: transaction.tables.ended_instances.add(instance_id))
    return []


@statement(QUERIES)
def record_changes(transaction: Transaction, campaign_id: UUID, *arguments: Any) -> Sequence[Row]:
    counts, (status, claimed, ends, resolved) = arguments[:10], arguments[10:14]
    numbers, statuses, reasons, attempts = arguments[14:]
    campaign = changing(transaction, campaign_id)
    assert min(counts) >= 0
    campaign.counts = Counts(*counts)
    campaign.status = CampaignStatus(status)
    campaign.holds_channel = campaign.status is CampaignStatus.IN_PROGRESS
    if claimed:
        campaign.claim_time = transaction.now
    if ends:
        campaign.end_time = transaction.now
    for number in resolved:
        campaign.unknown.pop(number, None)
    append_commit(transaction, campaign, numbers, statuses, reasons, attempts)
    return [{"revision": campaign.revision}]


def append_commit(
    transaction: Transaction,
    campaign: Campaign,
    numbers: Sequence[int] = (),
    statuses: Sequence[int] = (),
    reasons: Sequence[int] = (),
    attempts: Sequence[int] = (),
) -> None:
    """The next revision, with status and counts as they are now."""
    campaign.revision += 1
    campaign.log.append(
        Commit(
            campaign.revision,
            transaction.now,
            int(campaign.status),
            campaign.counts.as_list(),
            [*numbers],
            [int(status) for status in statuses],
            [*reasons],
            [*attempts],
        )
    )


@statement(QUERIES)
def suppress_contacts(
    transaction: Transaction,
    campaign_id: UUID,
    organisation_id: UUID,
    channel: int,
    numbers: Sequence[int],
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    for number in numbers:
        key = (organisation_id, channel, campaign.contacts[number].recipient_hash)
        row = Suppression(suppressed=True, event_time=transaction.now)
        transaction.at_commit(
            lambda key=key, row=row: transaction.tables.suppressions.__setitem__(key, row)  # type: ignore[misc]
        )
    return []


@statement(QUERIES, locks_campaign=True)
def fail_campaign(
    transaction: Transaction, campaign_id: UUID, reason: int, _text: str, _code: str, run: int
) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    if (
        campaign is not None
        and campaign.run == run
        and campaign.failure_reason is None
        and campaign.holds_channel
    ):
        campaign.failure_reason = FailureReason(reason)
    return []


@statement(QUERIES)
def get_pace(_: Transaction, __: UUID, ___: int) -> Sequence[Row]:
    return []


@statement(QUERIES)
def next_to_dispatch(
    transaction: Transaction, campaign_id: UUID, after: int, limit: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    ahead = [
        number
        for number, message in campaign.messages.items()
        if number > after and message.status is S.QUEUED
    ][:limit]
    return [{"messages": len(ahead), "last": ahead[-1] if ahead else None}]


@statement(QUERIES)
def record_dispatch(
    transaction: Transaction,
    campaign_id: UUID,
    epoch: int,
    through: int,
    undispatched: int,
    unused_seconds: float,
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    campaign.dispatch_epoch = epoch
    campaign.dispatched_through = through
    campaign.undispatched = undispatched
    campaign.dispatch_time = transaction.now - unused_seconds
    return []
