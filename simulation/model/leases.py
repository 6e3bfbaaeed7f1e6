"""Look-ups of attempts whose outcome is unknown."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from outreach.vocabulary import MessageStatus
from services.campaign.delivery.changes import QUERIES
from simulation.clock import START_EPOCH_SECONDS, START_SECONDS
from simulation.model.registry import statement
from simulation.model.tables import Campaign, Message, Unknown
from simulation.model.transactions import Row, Transaction
from simulation.model.work import changing, noted

S = MessageStatus


def to_datetime(seconds: float) -> datetime:
    """A time of the loop's clock as the database tells it."""
    return datetime.fromtimestamp(START_EPOCH_SECONDS - START_SECONDS + seconds, UTC)


@statement(QUERIES)
def look_up_subject(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    return [{"channel": campaign.channel, "content_hash": "hash-1"}] if campaign else []


# The product locks the rows that it leases, and no more. Here the campaign's lock stands for that.


@statement(QUERIES, locks_campaign=True)
def lease_sms_look_ups(
    transaction: Transaction, campaign_id: UUID, limit: int, after_seconds: float
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    in_doubt = [row for row in campaign.unknown.values() if _status(campaign, row) is not S.SENT]
    due = _due(transaction, in_doubt)[:limit]
    hashes = {campaign.contacts[row.number].recipient_hash for row in due}
    together = [row for row in in_doubt if campaign.contacts[row.number].recipient_hash in hashes]
    rows = []
    for message in _lease(transaction, campaign, together, lambda _: after_seconds):
        twins = _twins(campaign, message)
        under_way = any(t.status is S.SENDING and noted(campaign, t) is None for t in twins)
        if message.status is S.SENDING and not under_way:
            known = [*twins, *_earlier_attempts(campaign, message)]
            ids = [m.provider_message_id for m in known if m.provider_message_id is not None]
            rows.append(_attempt(campaign, message, ids))
    return rows


@statement(QUERIES, locks_campaign=True)
def lease_silent_sms(
    transaction: Transaction, campaign_id: UUID, limit: int, after_seconds: float
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    silent = [
        row
        for row in campaign.unknown.values()
        if _status(campaign, row) is S.SENT
        and campaign.messages[row.number].provider_message_id is not None
    ]
    rows = []
    for row in _due(transaction, silent)[:limit]:
        campaign.unknown[row.number] = row._replace(
            look_ups=row.look_ups + 1, next_look_up_time=transaction.now + after_seconds
        )
        message = campaign.messages[row.number]
        attempt = _attempt(campaign, message, [])
        rows.append({**attempt, "provider_message_id": message.provider_message_id})
    return sorted(rows, key=lambda row: row["number"])


@statement(QUERIES, locks_campaign=True)
def lease_email_look_ups(
    transaction: Transaction,
    campaign_id: UUID,
    limit: int,
    after_seconds: float,
    email_after_seconds: float,
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)

    def pause(row: Unknown) -> float:
        is_in_doubt = _status(campaign, row) is S.SENDING
        return after_seconds if is_in_doubt else email_after_seconds

    due = sorted(
        _due(transaction, campaign.unknown.values()),
        key=lambda row: _status(campaign, row) or len(S) + 1,
    )
    leased = _lease(transaction, campaign, due[:limit], pause)
    return [
        _attempt(campaign, message, [])
        for message in sorted(leased, key=lambda message: message.status)
        if message.status in (S.SENDING, S.SENT)
    ]


def _status(campaign: Campaign, row: Unknown) -> MessageStatus | None:
    """Of the message, while the attempt is its latest."""
    message = campaign.messages[row.number]
    return message.status if message.attempt == row.attempt else None


def _due(transaction: Transaction, rows: Iterable[Unknown]) -> list[Unknown]:
    """The longest due first."""
    due = [row for row in rows if row.next_look_up_time <= transaction.now]
    return sorted(due, key=lambda row: row.next_look_up_time)


def _lease(
    transaction: Transaction,
    campaign: Campaign,
    rows: Sequence[Unknown],
    pause: Callable[[Unknown], float],
) -> list[Message]:
    """Each is due again later; the messages whose attempt it still is, the oldest claim first."""
    leased = []
    for row in rows:
        seconds = pause(row) * 2 ** min(row.look_ups, 5)
        campaign.unknown[row.number] = row._replace(
            look_ups=row.look_ups + 1, next_look_up_time=transaction.now + seconds
        )
        message = campaign.messages[row.number]
        if message.attempt == row.attempt:
            leased.append(message)
    return sorted(leased, key=lambda message: (message.claim_time or 0.0, message.number))


def _twins(campaign: Campaign, message: Message) -> list[Message]:
    """Others to the same recipient."""
    same = campaign.contacts[message.number].recipient_hash
    return [
        other
        for other in campaign.messages.values()
        if other.number != message.number and campaign.contacts[other.number].recipient_hash == same
    ]


def _earlier_attempts(campaign: Campaign, message: Message) -> list[Message]:
    """Attempts to the same recipient that a retry has followed."""
    same = campaign.contacts[message.number].recipient_hash
    return [
        attempt
        for (number, _), attempt in campaign.attempts.items()
        if campaign.contacts[number].recipient_hash == same
    ]


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
