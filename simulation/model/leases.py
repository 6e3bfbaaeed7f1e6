"""Look-ups of attempts whose outcome is unknown."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from outreach.vocabulary import MessageStatus
from services.campaign.delivery.changes import QUERIES
from simulation.clock import START_EPOCH_SECONDS, START_SECONDS
from simulation.model.registry import statement
from simulation.model.tables import Campaign, Message, Unknown
from simulation.model.transactions import Row, Transaction

S = MessageStatus


def to_datetime(seconds: float) -> datetime:
    """A time of the loop's clock as the database tells it."""
    return datetime.fromtimestamp(START_EPOCH_SECONDS - START_SECONDS + seconds, UTC)


@statement(QUERIES)
def look_up_subject(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    return [{"channel": campaign.channel, "content_hash": "hash-1"}] if campaign else []


@statement(QUERIES, locks_campaign=True)
def lease_sms_look_ups(
    transaction: Transaction, campaign_id: UUID, limit: int, after_seconds: float
) -> Sequence[Row]:
    # The product locks these rows alone. Here the campaign's lock stands for that.
    campaign = transaction.campaign(campaign_id)
    assert campaign is not None
    hashes = {campaign.contacts[row.number].recipient_hash for row in _due(transaction, campaign)}
    together = [
        row
        for row in campaign.unknown.values()
        if campaign.contacts[row.number].recipient_hash in hashes
    ]
    leased = _lease(transaction, campaign, together, lambda _: after_seconds)
    rows = []
    for message in leased[:limit]:
        twins = _twins(campaign, message)
        under_way = any(t.status is S.SENDING and t.number not in campaign.unknown for t in twins)
        if message.status is S.SENDING and not under_way:
            ids = [t.provider_message_id for t in twins if t.provider_message_id is not None]
            rows.append(_attempt(campaign, message, ids))
    return rows


@statement(QUERIES, locks_campaign=True)
def lease_email_look_ups(
    transaction: Transaction,
    campaign_id: UUID,
    limit: int,
    after_seconds: float,
    email_after_seconds: float,
) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    assert campaign is not None

    def pause(message: Message) -> float:
        return after_seconds if message.status is S.SENDING else email_after_seconds

    due = sorted(
        _due(transaction, campaign),
        key=lambda row: (campaign.messages[row.number].status, row.next_look_up_time),
    )
    leased = _lease(transaction, campaign, due[:limit], pause)
    return [
        _attempt(campaign, message, [])
        for message in leased
        if message.status in (S.SENDING, S.SENT)
    ]


def _due(transaction: Transaction, campaign: Campaign) -> list[Unknown]:
    return [row for row in campaign.unknown.values() if row.next_look_up_time <= transaction.now]


def _lease(
    transaction: Transaction,
    campaign: Campaign,
    rows: Sequence[Unknown],
    pause: Callable[[Message], float],
) -> list[Message]:
    """Each is due again later; the messages whose attempt it still is, the oldest claim first."""
    leased = []
    for row in rows:
        message = campaign.messages[row.number]
        seconds = pause(message) * 2 ** min(row.look_ups, 5)
        campaign.unknown[row.number] = row._replace(
            look_ups=row.look_ups + 1, next_look_up_time=transaction.now + seconds
        )
        if message.attempt == row.attempt:
            leased.append(message)
    return sorted(leased, key=lambda message: (message.claim_time or 0.0, message.number))


def _twins(campaign: Campaign, message: Message) -> list[Message]:
    """Others to the same recipient, and attempts that a retry has followed."""
    same = campaign.contacts[message.number].recipient_hash
    twins = [
        other
        for other in campaign.messages.values()
        if other.number != message.number and campaign.contacts[other.number].recipient_hash == same
    ]
    earlier = [
        attempt
        for (number, _), attempt in campaign.attempts.items()
        if campaign.contacts[number].recipient_hash == same
    ]
    return twins + earlier


def _attempt(campaign: Campaign, message: Message, ids: Sequence[str]) -> Row:
    contact = campaign.contacts[message.number]
    return {
        "number": message.number,
        "attempt": message.attempt,
        "recipient": contact.recipient,
        "recipient_hash": contact.recipient_hash,
        "variables": (),
        "claim_time": to_datetime(message.claim_time or 0.0),
        "other_provider_message_ids": ids,
    }
