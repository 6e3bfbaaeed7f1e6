"""What the timers look for, and what they settle."""

from collections.abc import Callable, Sequence
from uuid import UUID

from outreach.vocabulary import Channel, FailureReason, MessageStatus
from services.campaign.delivery.changes import QUERIES
from simulation.model.registry import moved, statement
from simulation.model.tables import NEVER, Campaign, Message
from simulation.model.transactions import Row, Transaction
from simulation.model.work import changing, noted

S = MessageStatus


def _campaigns(transaction: Transaction, where: Callable[[Campaign], bool]) -> Sequence[Row]:
    return [
        {
            "id": campaign.id,
            "organisation_id": campaign.organisation_id,
            "channel": campaign.channel,
            "run": campaign.run,
            "revision": campaign.revision,
        }
        for campaign in transaction.tables.campaigns.values()
        if where(campaign)
    ]


def _messages(
    transaction: Transaction, campaign_id: UUID, limit: int, where: Callable[[Message], bool]
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    found = [message for message in campaign.messages.values() if where(message)]
    return [{"number": message.number, "attempt": message.attempt} for message in found[:limit]]


def _move(
    transaction: Transaction,
    campaign: Campaign,
    message: Message,
    status: MessageStatus,
    reason: FailureReason | None = None,
) -> Row:
    campaign.messages[message.number] = message._replace(
        status=status,
        failure_reason=None if reason is None else int(reason),
        update_time=transaction.now,
    )
    return moved(message.number, message.attempt, message.status, status, reason or 0)


@statement(QUERIES)
def campaigns_in_progress(transaction: Transaction) -> Sequence[Row]:
    return _campaigns(transaction, lambda campaign: campaign.holds_channel)


@statement(QUERIES)
def cancel_queued(
    transaction: Transaction, campaign_id: UUID, limit: int, after: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    queued = [
        message
        for message in campaign.messages.values()
        if message.status is S.QUEUED and message.number > after
    ]
    return [_move(transaction, campaign, message, S.CANCELLED) for message in queued[:limit]]


@statement(QUERIES)
def campaigns_to_cancel(transaction: Transaction) -> Sequence[Row]:
    return _campaigns(
        transaction,
        lambda campaign: (
            campaign.holds_channel
            and campaign.counts.queued > 0
            and (campaign.stop_time is not None or campaign.failure_reason is not None)
        ),
    )


@statement(QUERIES)
def campaigns_with_sent_sms(transaction: Transaction) -> Sequence[Row]:
    return _campaigns(
        transaction,
        lambda campaign: (
            campaign.holds_channel and campaign.counts.sent > 0 and campaign.channel is Channel.SMS
        ),
    )


@statement(QUERIES)
def overdue_receipts(
    transaction: Transaction, campaign_id: UUID, after_seconds: float, limit: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    before, long_before = transaction.now - after_seconds, transaction.now - 2 * after_seconds

    def is_overdue(message: Message) -> bool:
        unknown = noted(campaign, message)
        return (
            message.status is S.SENT
            and message.update_time < before
            and (
                (unknown is not None and unknown.next_look_up_time == NEVER)
                or message.provider_message_id is None
                or message.update_time < long_before
            )
        )

    return _messages(transaction, campaign_id, limit, is_overdue)


@statement(QUERIES)
def assume_delivered(
    transaction: Transaction, campaign_id: UUID, numbers: Sequence[int], after_seconds: float
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    before = transaction.now - after_seconds
    return [
        _move(transaction, campaign, message, S.ASSUMED_DELIVERED)
        for message in map(campaign.messages.__getitem__, numbers)
        if message.status is S.SENT and message.update_time < before
    ]


@statement(QUERIES)
def campaigns_with_sent_email(transaction: Transaction, after_seconds: float) -> Sequence[Row]:
    before = transaction.now - after_seconds
    return _campaigns(
        transaction,
        lambda campaign: (
            campaign.holds_channel
            and campaign.counts.sent > 0
            and campaign.channel is Channel.EMAIL
            and (campaign.start_time or before) < before
        ),
    )


@statement(QUERIES)
def silent_messages(
    transaction: Transaction, campaign_id: UUID, after_seconds: float, limit: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    before = transaction.now - after_seconds
    return _messages(
        transaction,
        campaign_id,
        limit,
        lambda m: m.status is S.SENT and m.update_time < before and noted(campaign, m) is None,
    )


@statement(QUERIES)
def campaigns_with_unsettled_email(transaction: Transaction, after_seconds: float) -> Sequence[Row]:
    before = transaction.now - after_seconds
    return _campaigns(
        transaction,
        lambda campaign: (
            campaign.run > 0
            and campaign.end_time is None
            and campaign.channel is Channel.EMAIL
            and (campaign.counts.sent > 0 or campaign.counts.retrying > 0)
            and (campaign.start_time or before) < before
        ),
    )


@statement(QUERIES)
def overdue_emails(
    transaction: Transaction, campaign_id: UUID, after_seconds: float, limit: int
) -> Sequence[Row]:
    before = transaction.now - after_seconds
    return _messages(
        transaction,
        campaign_id,
        limit,
        lambda m: m.status in (S.SENT, S.RETRYING) and m.update_time < before,
    )


@statement(QUERIES)
def time_out(
    transaction: Transaction, campaign_id: UUID, numbers: Sequence[int], after_seconds: float
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    before = transaction.now - after_seconds
    return [
        _move(
            transaction,
            campaign,
            message,
            S.FAILED,
            FailureReason.UNCONFIRMED if message.status is S.SENT else FailureReason.TIMED_OUT,
        )
        for message in map(campaign.messages.__getitem__, numbers)
        if message.status in (S.SENT, S.RETRYING) and message.update_time < before
    ]


@statement(QUERIES)
def campaigns_with_sending(transaction: Transaction) -> Sequence[Row]:
    return _campaigns(
        transaction, lambda campaign: campaign.holds_channel and campaign.counts.sending > 0
    )


@statement(QUERIES)
def overdue_claims(
    transaction: Transaction, campaign_id: UUID, after_seconds: float, limit: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    before = transaction.now - after_seconds
    return _messages(
        transaction,
        campaign_id,
        limit,
        lambda m: (
            m.status is S.SENDING
            and (m.claim_time or before) < before
            and noted(campaign, m) is None
        ),
    )


@statement(QUERIES)
def give_up_unknown(
    transaction: Transaction, campaign_id: UUID, after_seconds: float, limit: int
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    before = transaction.now - after_seconds
    overdue = [
        message
        for message in campaign.messages.values()
        if message.status is S.SENDING
        and (unknown := noted(campaign, message)) is not None
        and unknown.unknown_time < before
    ]
    return [
        _move(transaction, campaign, message, S.FAILED, FailureReason.UNCONFIRMED)
        for message in overdue[:limit]
    ]


@statement(QUERIES)
def campaigns_with_old_unknown(transaction: Transaction, after_seconds: float) -> Sequence[Row]:
    before = transaction.now - after_seconds
    return _campaigns(
        transaction,
        lambda campaign: (
            campaign.counts.sending > 0
            and any(unknown.unknown_time < before for unknown in campaign.unknown.values())
        ),
    )


@statement(QUERIES)
def campaigns_with_due_look_ups(transaction: Transaction) -> Sequence[Row]:
    return _campaigns(
        transaction,
        lambda campaign: any(
            unknown.next_look_up_time <= transaction.now for unknown in campaign.unknown.values()
        ),
    )


@statement(QUERIES)
def purge_ended_instances(_: Transaction) -> Sequence[Row]:
    return []


@statement(QUERIES)
def campaigns_with_old_log(_: Transaction, __: float) -> Sequence[Row]:
    return []
