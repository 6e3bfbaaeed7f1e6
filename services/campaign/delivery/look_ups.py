"""Attempts that may have gone out: leased to a sender, which asks the provider."""

from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2
from services.campaign.delivery.changes import QUERIES
from services.campaign.delivery.claims import claimed_message


class LookUps:
    """Hands out due look-ups. A lease that comes to nothing is due again later, at growing intervals."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", *, look_up_after_seconds: float
    ) -> None:
        self._pool = pool
        self._look_up_after_seconds = look_up_after_seconds

    async def lease(self, campaign_id: UUID, limit: int) -> delivery_pb2.LookUpResult:
        """Up to `limit` attempts of the campaign whose look-up is due."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                QUERIES["lease_look_ups"], campaign_id, limit, self._look_up_after_seconds
            )
            content_hash = await connection.fetchval(QUERIES["content_hash"], campaign_id)
        result = delivery_pb2.LookUpResult(content_hash=content_hash or "")
        for row in rows:
            claim_time = Timestamp()
            claim_time.FromDatetime(row["claim_time"])
            result.attempts.append(
                delivery_pb2.UnknownAttempt(
                    message=claimed_message(row),
                    claim_time=claim_time,
                    other_provider_message_ids=row["other_provider_message_ids"],
                )
            )
        return result
