"""Uploaded files, the contacts made of them, and what was wrong with their rows."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from outreach.postgres.copying import copying
from outreach.postgres.queries import load_queries
from services.campaign.contacts.copy_format import (
    CONTACT_COLUMNS,
    CONTACT_TABLE,
    PROBLEM_COLUMNS,
    PROBLEM_TABLE,
)
from services.campaign.contacts.dialect import FileColumn, FileLayout
from services.campaign.contacts.errors import ContactProblem, RowReason
from services.campaign.contacts.importer import ImportBatch, ImportCounts
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole, Mapping
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "contacts.sql")

#: One batch into the database; far more than it takes, so that only a hang ends it.
COPY_SECONDS_MAX = 120.0
ANALYZE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file that waits for its import.

    `mapping` is what came with the upload, as the caller wrote it; None: nothing came.
    """

    id: UUID
    campaign_id: UUID
    layout: FileLayout
    mapping: tuple[ColumnMapping, ...] | None
    size_bytes: int


async def lock_contacts(connection: Connection, campaign_id: UUID, *, shared: bool = False) -> bool:
    """Until the transaction ends: nobody else imports, and nobody uploads unless `shared`.

    False: somebody does. Never waits.
    """
    name = "lock_contacts_shared" if shared else "lock_contacts"
    locked: bool = await connection.fetchval(QUERIES[name], campaign_id)
    return locked


async def replace_upload(
    connection: Connection, upload: Upload, pieces: AsyncIterator[bytes], *, consent_by: str
) -> None:
    """Store a file in the place of the campaign's earlier one."""
    await connection.execute(QUERIES["delete_uploads"], upload.campaign_id)
    await connection.execute(
        QUERIES["insert_upload"],
        upload.id,
        upload.campaign_id,
        consent_by,
        _described(upload),
        upload.size_bytes,
    )
    ordinal = 0
    async for piece in pieces:
        await connection.execute(QUERIES["insert_chunk"], upload.id, ordinal, piece)
        ordinal += 1


async def get_upload(connection: Connection, campaign_id: UUID, upload_id: UUID) -> Upload | None:
    """None: the campaign has no such upload; it was imported, or replaced."""
    row = await connection.fetchrow(QUERIES["get_upload"], campaign_id, upload_id)
    if row is None:
        return None
    layout, mapping = _from_description(row["description"])
    return Upload(row["id"], row["campaign_id"], layout, mapping, row["size_bytes"])


async def get_chunk(connection: Connection, upload_id: UUID, ordinal: int) -> bytes | None:
    """One piece of a file, about 1 MiB, from 0; None: there are no more."""
    data: bytes | None = await connection.fetchval(QUERIES["get_chunk"], upload_id, ordinal)
    return data


async def delete_upload(connection: Connection, campaign_id: UUID) -> None:
    """Remove the campaign's uploaded file."""
    await connection.execute(QUERIES["delete_uploads"], campaign_id)


async def copy_batch(connection: Connection, campaign_id: UUID, batch: ImportBatch) -> None:
    """Store what came out of a stretch of a file: contacts with their messages, and problems."""
    if batch.contacts_count:
        await copy_rows(connection, CONTACT_TABLE, CONTACT_COLUMNS, batch.contacts)
        await connection.execute(
            QUERIES["insert_messages"],
            campaign_id,
            batch.first_number,
            batch.first_number + batch.contacts_count - 1,
            timeout=COPY_SECONDS_MAX,
        )
    if batch.problems_count:
        await copy_rows(connection, PROBLEM_TABLE, PROBLEM_COLUMNS, batch.problems)


async def set_imported(
    connection: Connection, campaign_id: UUID, counts: ImportCounts, mapping: Mapping
) -> None:
    """What the import found, and how the columns were used."""
    await connection.execute(
        QUERIES["set_import_counts"],
        campaign_id,
        counts.imported,
        counts.rows,
        counts.invalid,
        counts.duplicates,
    )
    columns = [
        {"name": column.name, "role": int(column.role), "variable_name": column.variable_name}
        for column in mapping.columns
    ]
    await connection.execute(QUERIES["set_columns"], campaign_id, orjson.dumps(columns).decode())


async def delete_problems(connection: Connection, campaign_id: UUID) -> None:
    """Forget what was wrong in the import before."""
    await connection.execute(QUERIES["delete_problems"], campaign_id, timeout=COPY_SECONDS_MAX)


async def problems_after(
    connection: Connection, campaign_id: UUID, ordinal: int, limit: int
) -> list[ContactProblem]:
    """In the order of the file, those after `ordinal`."""
    rows = await connection.fetch(QUERIES["problems_after"], campaign_id, ordinal, limit)
    return [
        ContactProblem(
            row["ordinal"],
            row["row_number"],
            row["column_name"],
            RowReason(row["reason"]),
            row["detail"],
        )
        for row in rows
    ]


async def analyze_contacts(connection: Connection) -> None:
    """Refresh the planner's statistics; outside of a transaction."""
    await connection.execute(QUERIES["analyze_contacts"], timeout=ANALYZE_SECONDS_MAX)


async def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: bytes
) -> None:
    """Rows in PostgreSQL's binary format into a table."""

    async def whole() -> AsyncIterator[bytes]:
        yield rows

    with copying(connection):
        await connection.copy_to_table(
            table, source=whole(), columns=columns, format="binary", timeout=COPY_SECONDS_MAX
        )


def _described(upload: Upload) -> str:
    layout = upload.layout
    described = {
        "encoding": layout.encoding,
        "encoding_guessed": layout.encoding_guessed,
        "delimiter": layout.delimiter,
        "has_header": layout.has_header,
        "columns": [
            {"name": column.name, "suggestion": _entry(column.suggestion)}
            for column in layout.columns
        ],
        "sample_rows": layout.sample_rows,
        "mapping": upload.mapping and [_entry(entry) for entry in upload.mapping],
    }
    return orjson.dumps(described).decode()


def _entry(entry: ColumnMapping) -> list[Any]:
    return [entry.name, int(entry.role), entry.variable_name]


def _mapping_of(raw: list[Any]) -> ColumnMapping:
    name, role, variable_name = raw
    return ColumnMapping(name, ColumnRole(role), variable_name)


def _from_description(text: str) -> tuple[FileLayout, tuple[ColumnMapping, ...] | None]:
    raw: dict[str, Any] = orjson.loads(text)
    layout = FileLayout(
        encoding=raw["encoding"],
        encoding_guessed=raw["encoding_guessed"],
        delimiter=raw["delimiter"],
        has_header=raw["has_header"],
        columns=tuple(
            FileColumn(column["name"], _mapping_of(column["suggestion"]))
            for column in raw["columns"]
        ),
        sample_rows=tuple(tuple(row) for row in raw["sample_rows"]),
    )
    mapping = raw["mapping"]
    return layout, None if mapping is None else tuple(_mapping_of(entry) for entry in mapping)
