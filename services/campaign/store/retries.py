"""The end of a run before its time, and messages that are queued once more."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from outreach.postgres.queries import load_queries
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "retries.sql")

#: Messages that are queued again with one revision: what a watcher gets in one piece.
QUEUED_AGAIN_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class RetryFilter:
    """Which messages; `failure_reasons` are of the failed ones, none means any. `pointless`: those that stay."""

    statuses: tuple[MessageStatus, ...]
    failure_reasons: tuple[FailureReason, ...]
    pointless: frozenset[FailureReason]

    @property
    def arguments(self) -> tuple[list[int], list[int], list[int]]:
        """As the statements take them."""
        return [*self.statuses], [*self.failure_reasons], [*self.pointless]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where a message that was named stands."""

    number: int
    status: MessageStatus
    failure_reason: FailureReason | None


async def stop_run(connection: Connection, campaign_id: UUID) -> None:
    """Nothing is claimed any more from the commit on; claims queue on the row's lock."""
    await connection.execute(QUERIES["stop_run"], campaign_id)


async def count_retryable(
    connection: Connection, campaign_id: UUID, where: RetryFilter
) -> tuple[int, int]:
    """How many match and may be retried, and how many match and make no sense to retry."""
    row = await connection.fetchrow(QUERIES["count_retryable"], campaign_id, *where.arguments)
    assert row is not None
    return row["retryable"], row["pointless"]


async def pick_retryable(
    connection: Connection, campaign_id: UUID, where: RetryFilter
) -> AsyncIterator[list[int]]:
    """Their numbers, a batch at a time; what was picked may be changed meanwhile."""
    after = 0
    while True:
        rows = await connection.fetch(
            QUERIES["pick_retryable"], campaign_id, *where.arguments, after, QUEUED_AGAIN_MAX
        )
        if not rows:
            return
        numbers = [row["number"] for row in rows]
        after = numbers[-1]
        yield numbers


async def chosen_messages(
    connection: Connection, campaign_id: UUID, numbers: Sequence[int]
) -> list[Chosen]:
    """Where these stand, by number; those that do not exist are left out."""
    rows = await connection.fetch(QUERIES["chosen_messages"], campaign_id, list(numbers))
    return [
        Chosen(
            row["number"],
            MessageStatus(row["status"]),
            None if row["failure_reason"] is None else FailureReason(row["failure_reason"]),
        )
        for row in rows
    ]


async def queue_again(connection: Connection, campaign_id: UUID, numbers: Sequence[int]) -> int:
    """Queue the FAILED and CANCELLED ones among these, at most QUEUED_AGAIN_MAX; returns how many there were."""
    assert len(numbers) <= QUEUED_AGAIN_MAX
    queued: int | None = await connection.fetchval(
        QUERIES["queue_again"], campaign_id, list(numbers)
    )
    return queued or 0
