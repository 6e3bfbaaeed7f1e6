"""The organisation's recipients that opted out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from outreach.postgres.queries import load_queries
from outreach.vocabulary import Channel, SuppressionSource
from services.campaign.contacts.copy_format import CONTACT_COLUMNS
from services.campaign.contacts.importer import ImportBatch
from services.campaign.store import Connection, Record
from services.campaign.store.contacts import copy_rows

QUERIES = load_queries("services.campaign.store", "suppressions.sql")

#: The statement that enters a whole file; far more than 300,000 rows take.
IMPORT_SECONDS_MAX: Final = 120.0
_IMPORT_TABLE: Final = "suppression_import"


@dataclass(frozen=True, slots=True)
class SuppressionRecord:
    """One recipient that is suppressed; `recipient` None: only the hash is kept."""

    channel: Channel
    recipient_hash: bytes
    recipient: str | None
    source: SuppressionSource
    event_time: datetime


@dataclass(frozen=True, slots=True)
class ListPosition:
    """Where a list goes on: after the suppression with these."""

    event_time: datetime
    channel: Channel
    recipient_hash: bytes


async def list_suppressions(
    connection: Connection,
    organisation_id: UUID,
    channel: Channel | None,
    *,
    after: ListPosition | None,
    limit: int,
) -> list[SuppressionRecord]:
    """Newest first; `channel` None: both."""
    rows = await connection.fetch(
        QUERIES["list_suppressions"],
        organisation_id,
        channel,
        None if after is None else after.event_time,
        0 if after is None else after.channel,
        b"" if after is None else after.recipient_hash,
        limit,
    )
    return [_suppression_of(row) for row in rows]


async def get_suppression(
    connection: Connection, organisation_id: UUID, channel: Channel, recipient_hash: bytes
) -> SuppressionRecord | None:
    """None: the recipient is not suppressed."""
    row = await connection.fetchrow(
        QUERIES["get_suppression"], organisation_id, channel, recipient_hash
    )
    return None if row is None else _suppression_of(row)


async def add_suppression(
    connection: Connection,
    organisation_id: UUID,
    channel: Channel,
    recipient_hash: bytes,
    recipient: str,
) -> None:
    """By an operator; one that is there stays as it is."""
    await connection.execute(
        QUERIES["add_suppression"], organisation_id, channel, recipient_hash, recipient
    )


async def remove_suppression(
    connection: Connection, organisation_id: UUID, channel: Channel, recipient_hash: bytes
) -> bool:
    """By an operator; False: there was none."""
    removed = await connection.fetchval(
        QUERIES["remove_suppression"], organisation_id, channel, recipient_hash
    )
    return removed is not None


async def suppress_erased(
    connection: Connection, organisation_id: UUID, channel: Channel, recipient_hash: bytes
) -> None:
    """Keep of an erased person the hash, and nothing else."""
    await connection.execute(QUERIES["suppress_erased"], organisation_id, channel, recipient_hash)


async def begin_import(connection: Connection) -> None:
    """A place for a file's recipients, until the transaction ends."""
    await connection.execute(QUERIES["create_import"])


async def copy_imported(connection: Connection, batch: ImportBatch) -> None:
    """Put what came out of a stretch of the file there."""
    if batch.contacts_count:
        await copy_rows(connection, _IMPORT_TABLE, CONTACT_COLUMNS, batch.contacts)


async def finish_import(connection: Connection, organisation_id: UUID, channel: Channel) -> int:
    """Enter them in the list; gives how many were not there before."""
    status = await connection.execute(
        QUERIES["add_imported"], organisation_id, channel, timeout=IMPORT_SECONDS_MAX
    )
    return int(status.rpartition(" ")[2])


def _suppression_of(row: Record) -> SuppressionRecord:
    return SuppressionRecord(
        channel=Channel(row["channel"]),
        recipient_hash=row["recipient_hash"],
        recipient=row["recipient"],
        source=SuppressionSource[row["source"].upper()],
        event_time=row["event_time"],
    )
