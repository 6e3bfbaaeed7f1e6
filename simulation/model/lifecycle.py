"""Run, stop and retry, opt-outs, and what watchers read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from outreach.vocabulary import CampaignStatus, MessageStatus
from services.campaign.delivery.changes import QUERIES as DELIVERY
from services.campaign.domain.lifecycle import Counts
from services.campaign.store.campaigns import QUERIES as CAMPAIGNS
from services.campaign.store.retries import QUERIES as RETRIES
from services.campaign.watch.feed import QUERIES as WATCH
from simulation.clock import START_EPOCH_SECONDS, START_SECONDS
from simulation.model.leases import to_datetime
from simulation.model.registry import statement
from simulation.model.tables import Suppression
from simulation.model.transactions import Row, Transaction
from simulation.model.work import append_commit, changing

S = MessageStatus


@statement(CAMPAIGNS, takes_channel=True)
def begin_run(transaction: Transaction, campaign_id: UUID, _segments_mean: float) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    for other in transaction.tables.campaigns.values():
        if other.id != campaign_id and other.holds_channel:
            raise asyncpg.UniqueViolationError("campaign_channel_lock")
    counts = campaign.counts
    values = counts.as_list()
    values[S.QUEUED - 1] += counts.waiting
    values[S.WAITING - 1] = 0
    campaign.counts = Counts(*values)
    campaign.status = CampaignStatus.IN_PROGRESS
    campaign.holds_channel = True
    campaign.run += 1
    campaign.start_time = transaction.now
    campaign.stop_time = campaign.end_time = campaign.failure_reason = None
    campaign.dispatch_epoch = campaign.dispatched_through = 0
    campaign.undispatched = campaign.counts.queued
    campaign.dispatch_time = campaign.claim_time = None
    return [{"run": campaign.run}]


@statement(CAMPAIGNS)
def log_change(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    append_commit(transaction, campaign)
    return [{"revision": campaign.revision}]


@statement(RETRIES)
def stop_run(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    changing(transaction, campaign_id).stop_time = transaction.now
    return []


@statement(RETRIES)
def pick_retryable(
    transaction: Transaction,
    campaign_id: UUID,
    statuses: Sequence[int],
    reasons: Sequence[int],
    pointless: Sequence[int],
    after: int,
    limit: int,
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    picked = [
        number
        for number, message in campaign.messages.items()
        if message.status in statuses
        and (message.failure_reason is None or not reasons or message.failure_reason in reasons)
        and (message.failure_reason is None or message.failure_reason not in pointless)
        and number > after
    ]
    return [{"number": number} for number in picked[:limit]]


@statement(RETRIES)
def queue_again(
    transaction: Transaction, campaign_id: UUID, numbers: Sequence[int]
) -> Sequence[Row]:
    campaign = changing(transaction, campaign_id)
    moves, attempts = [], []
    for number in numbers:
        message = campaign.messages[number]
        if message.status not in (S.FAILED, S.CANCELLED):
            continue
        if message.status is S.FAILED and message.attempt > 0:
            campaign.attempts.setdefault((number, message.attempt), message)
        campaign.messages[number] = message._replace(
            status=S.QUEUED,
            failure_reason=None,
            provider_message_id=None,
            provider_code=None,
            segments=0,
            claim_time=None,
            claimed_by=None,
            update_time=transaction.now,
        )
        moves.append((message.status, S.QUEUED))
        attempts.append(message.attempt)
    if not moves:
        return []
    campaign.counts = campaign.counts.moved(moves)
    campaign.undispatched += len(moves)
    append_commit(
        transaction, campaign, numbers, [S.QUEUED] * len(moves), [0] * len(moves), attempts
    )
    return [{"messages": len(moves)}]


@statement(DELIVERY)
def opt_out(transaction: Transaction, *arguments: Any) -> Sequence[Row]:
    organisations, channels, hashes, _, _, suppressed, _, times, _ = arguments

    def store() -> None:
        rows = zip(organisations, channels, hashes, suppressed, times, strict=True)
        for organisation_id, channel, recipient_hash, is_suppressed, time in rows:
            key = (organisation_id, channel, recipient_hash)
            row = Suppression(suppressed=is_suppressed, event_time=_seconds(time))
            known = transaction.tables.suppressions.get(key)
            if known is None or known.event_time <= row.event_time:
                transaction.tables.suppressions[key] = row

    transaction.at_commit(store)
    return []


def _seconds(time: datetime) -> float:
    return time.timestamp() - START_EPOCH_SECONDS + START_SECONDS


@statement(WATCH)
def changes_after(
    transaction: Transaction, campaign_id: UUID, position: int, commits: int, changes: int
) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    rows: list[Row] = []
    before = 0
    for commit in campaign.log[position:] if campaign else ():
        if len(rows) >= commits or before >= changes:
            break
        before += len(commit.numbers)
        row = commit._asdict()
        row["commit_time"] = to_datetime(commit.commit_time)
        rows.append(row)
    return rows


@statement(WATCH)
def campaign_exists(transaction: Transaction, campaign_id: UUID) -> Sequence[Row]:
    return [{"exists": True}] if transaction.campaign(campaign_id) else []


@statement(WATCH)
def position(transaction: Transaction, campaign_id: UUID, _organisation_id: UUID) -> Sequence[Row]:
    campaign = transaction.campaign(campaign_id)
    if campaign is None:
        return []
    return [{"revision": campaign.revision, "log_pruned_through": campaign.log_pruned_through}]
