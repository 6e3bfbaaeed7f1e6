"""COPY in short steps: each has a connection and a snapshot for some milliseconds, whatever the reader does.

A step is a range of message numbers (or of campaigns), so that a rare filter costs no more than an export of all. How
many rows the next one takes follows from what the last one had; one that turns out too large is cut off and taken anew
with fewer. So no step holds more than some megabytes, and memory does not grow with the export.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from outreach.errors import OutreachError
from outreach.postgres.copying import copying
from outreach.postgres.queries import load_queries
from outreach.recipients import normalise_recipient
from outreach.rpc.call import Caller
from outreach.rpc.filters import CampaignFilter, MessageFilter
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus, Role
from services.export.domain.csv_lines import SHORT_MARKS, CsvLines, Marks
from services.export.store import Connection, Pool

QUERIES = load_queries("services.export.store", "exports.sql")

#: What a step takes at most, if its rows are small.
STEP_ROWS_MAX = 10_000
STEP_CAMPAIGNS_MAX = 500
#: What a step should have: enough that its own cost does not count, little enough to hold three of them.
STEP_BYTES_AIM = 2 * 1024 * 1024
#: A step with more is dropped, unless it is one row.
STEP_BYTES_MAX = 8 * 1024 * 1024
_ACQUIRE_SECONDS_MAX = 30.0
_ACTIVE = (
    MessageStatus.WAITING,
    MessageStatus.QUEUED,
    MessageStatus.SENDING,
    MessageStatus.SENT,
    MessageStatus.RETRYING,
)
_ENDED = (CampaignStatus.COMPLETE, CampaignStatus.COMPLETE_WITH_ERRORS, CampaignStatus.FAILED)
_STATUS_NAMES = [status.name for status in MessageStatus]
_CAMPAIGN_STATUS_NAMES = [status.name for status in CampaignStatus]
_REASON_NAMES = [reason.name for reason in FailureReason]
_CHANNEL_NAMES = [channel.name for channel in Channel]


@dataclass(frozen=True, slots=True)
class Step:
    """What one COPY gave. `revision`: the campaign's right after it; 0 for campaigns."""

    copied: bytes
    rows: int
    marks: Marks
    revision: int = 0


@dataclass(frozen=True, slots=True)
class CampaignHead:
    """What an export of messages begins with; `counts` by message status from 1."""

    channel: Channel
    status: CampaignStatus
    revision: int
    total: int
    variable_names: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def is_final(self) -> bool:
        """Whether no message changes by itself any more, save for a late receipt."""
        return self.status in _ENDED and not any(self.counts[status - 1] for status in _ACTIVE)

    def rows_max(self, where: MessageFilter) -> int:
        """How many messages can match."""
        if self.is_final and where.statuses and where.is_by_status_alone:
            return sum(self.counts[status - 1] for status in set(where.statuses))
        return self.total


class StepTooLarge(Exception):
    """A step has more bytes than may be held."""


async def caller_by_key(pool: Pool, key_hash: bytes) -> Caller | None:
    """Who holds the API key with this SHA-256; None: nobody."""
    row = await pool.fetchrow(QUERIES["caller_by_key"], key_hash)
    if row is None:
        return None
    return Caller(
        organisation_id=row["organisation_id"], role=Role(row["role"]), key_label=row["label"]
    )


async def campaign_head(pool: Pool, organisation_id: UUID, campaign_id: UUID) -> CampaignHead:
    """CAMPAIGN_NOT_FOUND also for another organisation's."""
    row = await pool.fetchrow(QUERIES["campaign_head"], organisation_id, campaign_id)
    if row is None:
        raise campaign_not_found()
    return CampaignHead(
        channel=Channel(row["channel"]),
        status=CampaignStatus(row["status"]),
        revision=row["revision"],
        total=row["total"],
        variable_names=tuple(row["variable_names"]),
        counts=tuple(row["counts"]),
    )


def campaign_not_found() -> OutreachError:
    """As every service says it."""
    return OutreachError("CAMPAIGN_NOT_FOUND", "There is no campaign with this id.")


async def count_campaigns(pool: Pool, organisation_id: UUID) -> int:
    """All of the organisation."""
    count: int = await pool.fetchval(QUERIES["count_campaigns"], organisation_id)
    return count


class MessageSteps:
    """The messages of one campaign that match, by number."""

    def __init__(
        self,
        pool: Pool,
        lines: CsvLines,
        organisation_id: UUID,
        campaign_id: UUID,
        head: CampaignHead,
        where: MessageFilter,
    ) -> None:
        self._pool = pool
        self._lines = lines
        self._organisation_id = organisation_id
        self._campaign_id = campaign_id
        self._head = head
        self._where = where

    async def __aiter__(self) -> AsyncIterator[Step]:
        after, rows_max = 0, STEP_ROWS_MAX
        while after < self._head.total:
            through = min(after + rows_max, self._head.total)
            rows = through - after
            try:
                step = await self._step(after, through)
            except StepTooLarge:
                rows_max = max(1, rows // 8)
                continue
            yield step
            after, rows_max = through, _rows_next(rows, len(step.copied), STEP_ROWS_MAX)

    async def _step(self, after: int, through: int) -> Step:
        """Raises StepTooLarge, CAMPAIGN_NOT_FOUND."""
        bytes_max = STEP_BYTES_MAX if through - after > 1 else None
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS_MAX) as connection:
            copied, rows, marks = await _copied(
                connection,
                self._lines,
                QUERIES["copy_messages"],
                self._arguments(after, through),
                bytes_max,
            )
            # Afterwards: while it is there, so are all its contacts and messages.
            revision = await connection.fetchval(
                QUERIES["campaign_revision"], self._organisation_id, self._campaign_id
            )
        if revision is None:
            raise campaign_not_found()
        return Step(copied, rows, marks, revision)

    def _arguments(self, after: int, through: int) -> tuple[object, ...]:
        where = self._where
        return (
            _STATUS_NAMES,
            _REASON_NAMES,
            self._organisation_id,
            self._campaign_id,
            after,
            through,
            list(where.statuses),
            list(where.failure_reasons),
            normalise_recipient(self._head.channel, where.recipient),
            where.recipient_contains,
            where.run,
            len(self._head.variable_names),
            self._lines.safe,
        )


class CampaignSteps:
    """The campaigns of an organisation that match, newest first."""

    def __init__(
        self, pool: Pool, lines: CsvLines, organisation_id: UUID, where: CampaignFilter
    ) -> None:
        self._pool = pool
        self._lines = lines
        self._organisation_id = organisation_id
        self._where = where

    async def __aiter__(self) -> AsyncIterator[Step]:
        before: UUID | None = None
        rows_max = STEP_CAMPAIGNS_MAX
        while True:
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS_MAX) as connection:
                found = await connection.fetch(
                    QUERIES["next_campaign_ids"], self._organisation_id, before, rows_max
                )
                if not found:
                    return
                newest, oldest = found[0]["id"], found[-1]["id"]
                try:
                    copied, rows, marks = await _copied(
                        connection,
                        self._lines,
                        QUERIES["copy_campaigns"],
                        self._arguments(oldest, newest),
                        STEP_BYTES_MAX if len(found) > 1 else None,
                    )
                except StepTooLarge:
                    rows_max = max(1, len(found) // 8)
                    continue
            yield Step(copied, rows, marks)
            before = oldest
            rows_max = _rows_next(len(found), len(copied), STEP_CAMPAIGNS_MAX)

    def _arguments(self, oldest: UUID, newest: UUID) -> tuple[object, ...]:
        where = self._where
        return (
            _CHANNEL_NAMES,
            _CAMPAIGN_STATUS_NAMES,
            _REASON_NAMES,
            oldest,
            newest,
            self._organisation_id,
            where.channel or 0,
            list(where.statuses),
            where.name_contains,
        )


async def _copied(
    connection: Connection,
    lines: CsvLines,
    query: LiteralString,
    arguments: Sequence[object],
    bytes_max: int | None,
) -> tuple[bytes, int, Marks]:
    """The rows between marks that are not in the data."""
    marks = SHORT_MARKS
    while True:
        copied, rows = await _copy(
            connection, query, (lines.template(marks), *arguments), bytes_max
        )
        if lines.are_whole(copied, rows, marks):
            return copied, rows, marks
        marks = Marks.fresh()


async def _copy(
    connection: Connection, query: LiteralString, arguments: Sequence[object], bytes_max: int | None
) -> tuple[bytes, int]:
    """What COPY sent and how many rows that is."""
    pieces: list[bytes] = []
    size_bytes = 0

    async def keep(piece: bytes) -> None:
        nonlocal size_bytes
        size_bytes += len(piece)
        if bytes_max is None or size_bytes <= bytes_max:
            pieces.append(piece)
        else:
            # Read to its end all the same: asyncpg 0.32 hangs when the output of a COPY raises.
            pieces.clear()

    with copying(connection):
        done: Any = await connection.copy_from_query(query, *arguments, output=keep)
    if bytes_max is not None and size_bytes > bytes_max:
        raise StepTooLarge
    return b"".join(pieces), int(done.removeprefix("COPY "))


def _rows_next(rows: int, size_bytes: int, rows_max: int) -> int:
    """As many rows as should fit, if they are like those before."""
    if not size_bytes:
        return rows_max
    return max(1, min(rows_max, STEP_BYTES_AIM * rows // size_bytes))
