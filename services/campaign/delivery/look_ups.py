"""Attempts that may have gone out, or of which nothing is heard: leased to a sender, which asks the provider."""

from typing import Any
from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2
from outreach.vocabulary import Channel
from services.campaign.delivery.changes import QUERIES
from services.campaign.delivery.claims import claimed_message

#: An email that was accepted, and of which nothing is heard, is looked up again after this, then ever more rarely.
EMAIL_LOOK_UP_AFTER_SECONDS = 3_600.0
#: Of a lease, which is one message of the stream; fewer attempts are leased where they have longer values.
LEASE_BYTES_MAX = 3 * 1024 * 1024


class _TooLong(Exception):
    """Rolls a lease back."""


class LookUps:
    """Hands out due look-ups. A lease that comes to nothing is due again later, at growing intervals."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        look_up_after_seconds: float,
        email_look_up_after_seconds: float = EMAIL_LOOK_UP_AFTER_SECONDS,
    ) -> None:
        """`look_up_after_seconds`: for attempts that may not have gone out; the other for accepted emails."""
        self._pool = pool
        self._look_up_after_seconds = look_up_after_seconds
        self._email_look_up_after_seconds = email_look_up_after_seconds

    async def lease(self, campaign_id: UUID, limit: int) -> delivery_pb2.LookUpResult:
        """Up to `limit` attempts of the campaign whose look-up is due; none when it is gone.

        SMS: with them all that are unknown of the same recipients, which may be more.
        """
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    result = await self._lease(connection, campaign_id, limit)
                    if limit > 1 and result.ByteSize() > LEASE_BYTES_MAX:
                        raise _TooLong  # as if nothing had been leased: all of it stays due
            except _TooLong:
                limit //= 2
            else:
                return result

    async def _lease(
        self, connection: Any, campaign_id: UUID, limit: int
    ) -> delivery_pb2.LookUpResult:
        subject = await connection.fetchrow(QUERIES["look_up_subject"], campaign_id)
        if subject is None:
            return delivery_pb2.LookUpResult()
        channel = Channel(subject["channel"])
        lease = self._lease_email if channel is Channel.EMAIL else self._lease_sms
        rows = await lease(connection, campaign_id, limit)
        result = delivery_pb2.LookUpResult(content_hash=subject["content_hash"])
        for row in rows:
            claim_time = Timestamp()
            claim_time.FromDatetime(row["claim_time"])
            result.attempts.append(
                delivery_pb2.UnknownAttempt(
                    message=claimed_message(channel, row),
                    claim_time=claim_time,
                    other_provider_message_ids=row["other_provider_message_ids"],
                    provider_message_id=row.get("provider_message_id", ""),
                )
            )
        return result

    async def _lease_sms(
        self, connection: Any, campaign_id: UUID, limit: int
    ) -> list[asyncpg.Record]:
        """Attempts in doubt first: accepted ones wait for no more than a receipt."""
        after = self._look_up_after_seconds
        rows: list[asyncpg.Record] = await connection.fetch(
            QUERIES["lease_sms_look_ups"], campaign_id, limit, after
        )
        if len(rows) < limit:
            rows += await connection.fetch(
                QUERIES["lease_silent_sms"], campaign_id, limit - len(rows), after
            )
        return rows

    async def _lease_email(
        self, connection: Any, campaign_id: UUID, limit: int
    ) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await connection.fetch(
            QUERIES["lease_email_look_ups"],
            campaign_id,
            limit,
            self._look_up_after_seconds,
            self._email_look_up_after_seconds,
        )
        return rows
