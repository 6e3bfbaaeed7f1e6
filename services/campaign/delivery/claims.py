"""Claim before send: QUEUED → SENDING for exactly one attempt, committed before the sender hears of it."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2
from outreach.vocabulary import Channel, MessageStatus
from services.campaign.delivery.changes import (
    QUERIES,
    Move,
    Wakeups,
    lock_campaign,
    moves_of,
    record_changes,
)

CLAIM_MESSAGES_MAX = 1_000
#: Of the contacts' values in one claim. With one contact more (64 columns of 4 KB) and all that comes beside the values
#: an answer stays below the 4 MiB that a stream takes.
CLAIM_VALUES_BYTES_MAX = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim gave: the state of the range, the messages, and by which content to render them."""

    state: "delivery_pb2.ClaimState.ValueType"
    messages: list[delivery_pb2.ClaimedMessage]
    content_hash: str


_NOT_RUNNING = Claimed(delivery_pb2.CLAIM_STATE_NOT_RUNNING, [], "")


class Claims:
    """Claims of any number of senders; one transaction each."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        # A campaign's content can't change once it has run.
        self._content_hashes: dict[UUID, str] = {}

    async def claim(
        self, instance_id: UUID, campaign_id: UUID, run: int, first: int, last: int, limit: int
    ) -> Claimed:
        """Up to `limit` (at most 1,000) queued messages of the range first…last.

        Suppressed recipients become OPTED_OUT on the way and are not returned, nor is what has arrived by an earlier
        attempt. When this raises, the claim may have
        been committed all the same: the caller must end the instance, which hands everything back.
        """
        limit = max(1, min(limit, CLAIM_MESSAGES_MAX))
        async with self._pool.acquire() as connection, connection.transaction():
            campaign = await lock_campaign(connection, campaign_id)
            if campaign is None or campaign.run != run or not campaign.sending_allowed:
                return _NOT_RUNNING
            arrived: list[Move] = []
            if run > 1:
                arrived = moves_of(
                    await connection.fetch(QUERIES["settle_arrived"], campaign_id, first, last)
                )
            rows = await connection.fetch(
                QUERIES["claim_messages"],
                campaign_id,
                first,
                last,
                limit,
                run,
                instance_id,
                campaign.organisation_id,
                campaign.channel,
                CLAIM_VALUES_BYTES_MAX,
            )
            claimed = [
                Move(row["number"], row["attempt"], MessageStatus.QUEUED, row["status"])
                for row in rows
            ]
            if not (arrived or claimed):
                return Claimed(delivery_pb2.CLAIM_STATE_EXHAUSTED, [], "")
            revision = await record_changes(connection, campaign, arrived + claimed, claimed=True)
            content_hash = self._content_hashes.get(campaign_id)
            if content_hash is None:
                content_hash = await connection.fetchval(QUERIES["content_hash"], campaign_id)
                if len(self._content_hashes) >= 1_000:
                    self._content_hashes.clear()
                self._content_hashes[campaign_id] = content_hash
            reached("claim-before-commit")
        reached("claim-committed")
        await self._wakeups.campaign_changed(campaign.organisation_id, campaign_id, revision)
        is_full = sum(row["size_bytes"] for row in rows) >= CLAIM_VALUES_BYTES_MAX
        exhausted = len(rows) < limit and not is_full
        return Claimed(
            delivery_pb2.CLAIM_STATE_EXHAUSTED if exhausted else delivery_pb2.CLAIM_STATE_OPEN,
            sorted(
                (
                    claimed_message(campaign.channel, row)
                    for row in rows
                    if row["status"] == MessageStatus.SENDING
                ),
                key=lambda message: message.number,
            ),
            content_hash,
        )


def claimed_message(channel: Channel, row: asyncpg.Record) -> delivery_pb2.ClaimedMessage:
    """From number, attempt, recipient, recipient_hash, variables, and for a claim is_retry; a missing value travels as
    an empty string.
    """
    return delivery_pb2.ClaimedMessage(
        number=row["number"],
        attempt=row["attempt"],
        recipient=row["recipient"],
        values=[value or "" for value in row["variables"]],
        # Only an unsubscribe link needs it.
        recipient_hash=row["recipient_hash"] if channel is Channel.EMAIL else b"",
        is_retry=row.get("is_retry", False),
    )
