"""Make contacts, and their messages, of an uploaded file: all or nothing, in one transaction."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog

from outreach.crash_points import reached
from outreach.errors import OutreachError, Violation
from outreach.postgres.outage import STORE_ERRORS
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction, Channel
from services.campaign.contacts.dialect import HEAD_BYTES_MAX, FileLayout, detect_layout
from services.campaign.contacts.errors import ContactLimits, ContactProblem
from services.campaign.contacts.importer import ImportCounts, ImportSpec
from services.campaign.contacts.mapping import ColumnMapping, Mapping
from services.campaign.contacts.worker import import_in_worker
from services.campaign.store import Connection, Pool
from services.campaign.store.campaigns import CampaignRecord
from services.campaign.store.contacts import (
    Upload,
    analyze_contacts,
    copy_batch,
    delete_problems,
    delete_upload,
    get_chunk,
    get_upload,
    lock_contacts,
    problems_after,
    set_imported,
)
from services.campaign.usecases.guards import require_action, require_campaign
from services.campaign.usecases.update_campaign import settle_template
from services.campaign.usecases.upload_contacts import import_under_way, require_mapping

#: Problems that the answer itself carries.
RESULT_PROBLEMS_MAX = 20
#: The planner's guesses do for fewer contacts.
ANALYZED_CONTACTS_MIN = 1_000

_log = structlog.get_logger()

#: Called with the totals so far and the file's size in bytes; must not block.
OnProgress = Callable[[ImportCounts, int], None]


@dataclass(frozen=True, slots=True)
class ImportCommand:
    """Which file, and how. `mapping` None: the upload's, or the suggestion. `has_header` None: as
    the upload found.
    """

    campaign_id: UUID
    upload_id: UUID
    mapping: tuple[ColumnMapping, ...] | None
    keep_duplicates: bool
    has_header: bool | None


@dataclass(frozen=True, slots=True)
class ImportTerms:
    """What an import goes by besides the caller's command."""

    recipient_hash_key: bytes
    limits: ContactLimits


@dataclass(frozen=True, slots=True)
class Imported:
    """How an import ended; `campaign` None: no row was valid, so that there are problems only."""

    campaign: CampaignRecord | None
    counts: ImportCounts
    problems: list[ContactProblem]


async def import_contacts(
    connection: Connection,
    caller: Caller,
    command: ImportCommand,
    terms: ImportTerms,
    on_progress: OnProgress,
) -> Imported:
    """The campaign with its contacts; READY when its template is valid for their columns.

    To be committed also when no row was valid: the problems can then be read, the file stays for
    another mapping, and the campaign is as it was. CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED,
    UPLOAD_NOT_FOUND, mapping reasons, TOO_MANY_ROWS, FILE_… as `upload_contacts`.
    """
    campaign = await require_campaign(connection, caller.organisation_id, command.campaign_id)
    if not await lock_contacts(connection, campaign.id):
        raise import_under_way()
    # Read again under the lock, so that two imports can't both find the campaign empty.
    campaign = await require_campaign(connection, caller.organisation_id, command.campaign_id)
    require_action(campaign, CampaignAction.IMPORT_CONTACTS)
    upload = await get_upload(connection, campaign.id, command.upload_id)
    if upload is None:
        raise _upload_not_found()
    layout = await _layout(connection, upload, campaign.channel, command.has_header, terms.limits)
    mapping = _mapping(command, upload, layout)
    spec = ImportSpec(
        campaign_id=campaign.id,
        channel=campaign.channel,
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        has_header=layout.has_header,
        mapping=mapping,
        recipient_hash_key=terms.recipient_hash_key,
        keep_duplicates=command.keep_duplicates,
        limits=terms.limits,
    )
    await delete_problems(connection, campaign.id)
    counts = await _copy(connection, upload, spec, on_progress)
    problems = await problems_after(connection, campaign.id, 0, RESULT_PROBLEMS_MAX)
    if not counts.imported:
        # Problems of a campaign that was deleted meanwhile would stay for ever.
        await require_campaign(connection, caller.organisation_id, campaign.id, locked=True)
        return Imported(None, counts, problems)
    campaign = await _settle(connection, caller, campaign.id, counts, mapping)
    reached("import-before-commit")
    return Imported(campaign, counts, problems)


def no_valid_rows() -> OutreachError:
    """What a caller is told when an import gave no contact."""
    text = "No row of the file is a valid contact; the problems say why. Nothing was imported."
    return OutreachError(
        "NO_VALID_ROWS", text, violations=[Violation("upload_id", "NO_VALID_ROWS", text)]
    )


async def refresh_statistics(pool: Pool, contacts: int) -> None:
    """After commit of an import: without it the planner takes the tables for as small as they were.

    Failing is no reason to call the import failed: the database does the same by itself later.
    """
    if contacts < ANALYZED_CONTACTS_MIN:
        return
    try:
        async with pool.acquire() as connection:
            await analyze_contacts(connection)
    except STORE_ERRORS as error:
        _log.warning("statistics_not_refreshed", error=type(error).__name__)


async def _copy(
    connection: Connection, upload: Upload, spec: ImportSpec, on_progress: OnProgress
) -> ImportCounts:
    """Through the worker into the tables. Reading the file and writing contacts take turns on the
    connection: neither waits for the other while it has its turn.
    """
    turn = asyncio.Lock()
    counts = ImportCounts()
    async with (
        aclosing(_chunks(connection, turn, upload)) as chunks,
        import_in_worker(chunks, spec) as batches,
    ):
        async for batch in batches:
            async with turn:
                await copy_batch(connection, spec.campaign_id, batch)
            reached("import-copied-batch")
            counts = batch.counts
            on_progress(counts, upload.size_bytes)
    return counts


async def _chunks(
    connection: Connection, turn: asyncio.Lock, upload: Upload
) -> AsyncGenerator[bytes]:
    read_bytes, ordinal = 0, 0
    while read_bytes < upload.size_bytes:
        async with turn:
            chunk = await get_chunk(connection, upload.id, ordinal)
        if chunk is None:  # the campaign was deleted meanwhile, and its file with it
            raise _upload_not_found()
        yield chunk
        read_bytes += len(chunk)
        ordinal += 1


async def _layout(
    connection: Connection,
    upload: Upload,
    channel: Channel,
    has_header: bool | None,
    limits: ContactLimits,
) -> FileLayout:
    """As the upload found, unless the caller says otherwise about the header."""
    if has_header is None or has_header == upload.layout.has_header:
        return upload.layout
    first = await get_chunk(connection, upload.id, 0) or b""
    return await asyncio.to_thread(
        detect_layout,
        first[:HEAD_BYTES_MAX],
        complete=upload.size_bytes <= HEAD_BYTES_MAX,
        channel=channel,
        has_header=has_header,
        limits=limits,
    )


def _mapping(command: ImportCommand, upload: Upload, layout: FileLayout) -> Mapping:
    entries = command.mapping
    if entries is None:
        entries = upload.mapping
    if entries is None:
        entries = layout.suggested_mapping
    return require_mapping(entries, layout, field="mapping.columns")


async def _settle(
    connection: Connection,
    caller: Caller,
    campaign_id: UUID,
    counts: ImportCounts,
    mapping: Mapping,
) -> CampaignRecord:
    """The campaign's own row, locked from here to the commit only."""
    campaign = await require_campaign(connection, caller.organisation_id, campaign_id, locked=True)
    require_action(campaign, CampaignAction.IMPORT_CONTACTS)
    await set_imported(connection, campaign_id, counts, mapping)
    await delete_upload(connection, campaign_id)
    return await settle_template(connection, caller.organisation_id, campaign_id)


def _upload_not_found() -> OutreachError:
    text = "The campaign has no such upload; it was imported, or another one took its place."
    return OutreachError(
        "UPLOAD_NOT_FOUND", text, violations=[Violation("upload_id", "UPLOAD_NOT_FOUND", text)]
    )
