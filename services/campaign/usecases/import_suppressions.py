"""Add all recipients of a CSV file to the list of those that opted out: all or nothing."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from outreach.errors import OutreachError, Violation
from outreach.rpc.call import Caller
from outreach.vocabulary import Channel
from services.campaign.contacts.dialect import FileLayout
from services.campaign.contacts.errors import ContactLimits
from services.campaign.contacts.importer import ImportCounts, ImportSpec
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole, Mapping
from services.campaign.contacts.worker import import_in_worker
from services.campaign.store import Connection
from services.campaign.store import suppressions as store
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.csv_file import require_csv, take_in
from services.campaign.usecases.import_contacts import ImportTerms

#: The worker writes contacts; these belong to no campaign.
_NO_CAMPAIGN: Final = UUID(int=0)
_FIELD: Final = "header.column"


@dataclass(frozen=True, slots=True)
class SuppressionFile:
    """What is said before the file itself.

    `column` empty: found by its values. `has_header` None: detected. `size_bytes` 0: not known.
    """

    channel: Channel
    file_name: str
    column: str
    has_header: bool | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ImportedSuppressions:
    """rows = added + known + invalid."""

    rows: int
    added: int
    known: int
    invalid: int


async def receive_suppressions(
    spool: UploadSpool, chunks: AsyncIterator[bytes], file: SuppressionFile, limits: ContactLimits
) -> FileLayout:
    """The file in the spool, whole, with a column of recipients.

    FILE_…, ENCODING_UNKNOWN, TOO_MANY_COLUMNS, MAPPING_NO_DESTINATION, MAPPING_UNKNOWN_COLUMN.
    """
    require_csv(file.file_name, file.size_bytes, limits)
    return await take_in(
        spool,
        chunks,
        size_bytes=file.size_bytes,
        channel=file.channel,
        has_header=file.has_header,
        limits=limits,
        check=lambda layout: _mapping(layout, file.column),
    )


async def import_suppressions(
    connection: Connection,
    caller: Caller,
    file: SuppressionFile,
    layout: FileLayout,
    spool: UploadSpool,
    terms: ImportTerms,
) -> ImportedSuppressions:
    """Those that were on the list before stay as they are.

    NO_VALID_ROWS, TOO_MANY_ROWS, FILE_MALFORMED, FILE_HEADER_ONLY.
    """
    spec = ImportSpec(
        campaign_id=_NO_CAMPAIGN,
        channel=file.channel,
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        has_header=layout.has_header,
        mapping=_mapping(layout, file.column),
        recipient_hash_key=terms.recipient_hash_key,
        limits=terms.limits,
    )
    await store.begin_import(connection)
    counts = ImportCounts()
    async with (
        # Closed before the spool is, whatever ends the import.
        aclosing(_pieces(spool)) as pieces,
        import_in_worker(pieces, spec) as batches,
    ):
        async for batch in batches:
            await store.copy_imported(connection, batch)
            counts = batch.counts
    if not counts.imported:
        raise _no_valid_rows(file.channel)
    added = await store.finish_import(connection, caller.organisation_id, file.channel)
    return ImportedSuppressions(
        rows=counts.rows,
        added=added,
        known=counts.imported - added + counts.duplicates,
        invalid=counts.invalid,
    )


async def _pieces(spool: UploadSpool) -> AsyncGenerator[bytes]:
    async for piece in spool.pieces():
        yield piece


def _mapping(layout: FileLayout, column: str) -> Mapping:
    """One column is the recipients, the others are not read."""
    chosen = _column_index(layout, column)
    return Mapping(
        tuple(
            ColumnMapping(
                name, ColumnRole.DESTINATION if index == chosen else ColumnRole.DO_NOT_IMPORT
            )
            for index, name in enumerate(layout.column_names)
        )
    )


def _column_index(layout: FileLayout, column: str) -> int:
    names = layout.column_names
    if column:
        if names.count(column) == 1:
            return names.index(column)
        text = "The file has no such column."
        if column in names:
            text = "Several columns of the file have this name; give them different ones."
        raise _refused("MAPPING_UNKNOWN_COLUMN", text)
    for index, found in enumerate(layout.columns):
        if found.suggestion.role is ColumnRole.DESTINATION:
            return index
    raise _refused(
        "MAPPING_NO_DESTINATION", "No column looks like recipients; name the one that has them."
    )


def _refused(reason: str, text: str) -> OutreachError:
    return OutreachError(reason, text, violations=[Violation(_FIELD, reason, text)])


def _no_valid_rows(channel: Channel) -> OutreachError:
    text = f"No row of the file has a recipient of {channel.name}. Nothing was added."
    return OutreachError(
        "NO_VALID_ROWS", text, violations=[Violation("chunk", "NO_VALID_ROWS", text)]
    )
