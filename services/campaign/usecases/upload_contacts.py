"""Take in a file of contacts. Nothing of it is stored unless all of it is right."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from outreach.errors import OutreachError, Violation
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction, Channel
from services.campaign.contacts.dialect import HEAD_BYTES_MAX, FileLayout, detect_layout
from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.mapping import ColumnMapping, Mapping, resolve_mapping
from services.campaign.store import Connection, Pool
from services.campaign.store.contacts import Upload, lock_contacts, replace_upload
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.guards import require_action, require_campaign
from services.campaign.usecases.upload_sizes import (
    SIZE_FIELD,
    require_not_longer,
    require_whole,
    size_violations,
)


@dataclass(frozen=True, slots=True)
class UploadCommand:
    """What is said before the file itself.

    `has_header` None: detected. `mapping` None: given with the import, or suggested. `size_bytes`
    0: not known.
    """

    campaign_id: UUID
    file_name: str
    has_header: bool | None
    mapping: tuple[ColumnMapping, ...] | None
    size_bytes: int


def require_consent(*, confirmed: bool) -> None:
    """CONSENT_NOT_CONFIRMED, before anything else is looked at."""
    if not confirmed:
        raise OutreachError(
            "CONSENT_NOT_CONFIRMED",
            "Confirm that every contact in the file consented to be contacted.",
            violations=[
                Violation(
                    "header.consent_confirmed", "CONSENT_NOT_CONFIRMED", "Has to be confirmed."
                )
            ],
        )


async def upload_contacts(
    pool: Pool,
    caller: Caller,
    command: UploadCommand,
    chunks: AsyncIterator[bytes],
    limits: ContactLimits,
) -> Upload:
    """The stored file; it takes the place of an earlier one.

    What is wrong is said as soon as it is known, mostly before the file is complete.
    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED; FILE_NOT_CSV, FILE_EMPTY, FILE_HEADER_ONLY,
    FILE_TOO_LARGE, FILE_TRUNCATED, FILE_MALFORMED, ENCODING_UNKNOWN, TOO_MANY_COLUMNS, mapping
    reasons.
    """
    _check_file_name(command.file_name)
    _check_announced_size(command.size_bytes, limits)
    async with pool.acquire() as connection:
        campaign = await require_campaign(connection, caller.organisation_id, command.campaign_id)
    require_action(campaign, CampaignAction.IMPORT_CONTACTS)
    with UploadSpool(HEAD_BYTES_MAX) as spool:
        layout = await _take_in(spool, chunks, command, campaign.channel, limits)
        upload = Upload(
            id=uuid7(),
            campaign_id=command.campaign_id,
            layout=layout,
            mapping=command.mapping,
            size_bytes=spool.size_bytes,
        )
        async with pool.acquire() as connection, connection.transaction():
            await _store(connection, caller, upload, spool)
    return upload


def require_mapping(entries: Sequence[ColumnMapping], layout: FileLayout, *, field: str) -> Mapping:
    """The mapping, held against the file's columns; the error names every field at fault."""
    mapping, violations = resolve_mapping(entries, layout.column_names, field=field)
    if mapping is None:
        raise OutreachError(violations[0].reason, violations[0].text, violations=violations)
    return mapping


def import_under_way() -> OutreachError:
    """Another call is at work on the campaign's contacts now."""
    return OutreachError(
        "ACTION_NOT_ALLOWED",
        "An import of this campaign's contacts is under way; see how it ends.",
        metadata={"action": CampaignAction.IMPORT_CONTACTS.name, "why": "IMPORT_UNDER_WAY"},
    )


async def _take_in(
    spool: UploadSpool,
    chunks: AsyncIterator[bytes],
    command: UploadCommand,
    channel: Channel,
    limits: ContactLimits,
) -> FileLayout:
    """Spool the file and tell its layout, as soon as enough of it is here."""
    layout: FileLayout | None = None
    async for chunk in chunks:
        _check_size(spool.size_bytes + len(chunk), command.size_bytes, limits)
        await spool.append(chunk)
        if layout is None and spool.head_complete:
            layout = await _detect(spool, command, channel, limits, complete=False)
    require_whole(spool.size_bytes, command.size_bytes)
    return layout or await _detect(spool, command, channel, limits, complete=True)


async def _detect(
    spool: UploadSpool,
    command: UploadCommand,
    channel: Channel,
    limits: ContactLimits,
    *,
    complete: bool,
) -> FileLayout:
    # A thread: it can take 100 ms of CPU, and other calls are served meanwhile.
    layout = await asyncio.to_thread(
        detect_layout,
        spool.head,
        complete=complete,
        channel=channel,
        has_header=command.has_header,
        limits=limits,
    )
    if command.mapping is not None:
        require_mapping(command.mapping, layout, field="header.mapping.columns")
    return layout


async def _store(
    connection: Connection, caller: Caller, upload: Upload, spool: UploadSpool
) -> None:
    if not await lock_contacts(connection, upload.campaign_id, shared=True):
        raise import_under_way()
    # Again, and locked: it may have been imported or deleted while the file came in.
    campaign = await require_campaign(
        connection, caller.organisation_id, upload.campaign_id, locked=True
    )
    require_action(campaign, CampaignAction.IMPORT_CONTACTS)
    await replace_upload(connection, upload, spool.pieces(), consent_by=caller.key_label)


def _check_file_name(name: str) -> None:
    if not name.lower().endswith(".csv"):
        raise ContactFileError(
            "FILE_NOT_CSV",
            "header.file_name",
            "The file's name has to end in .csv; export the contacts as CSV.",
        )


def _check_announced_size(size_bytes: int, limits: ContactLimits) -> None:
    violations = size_violations(size_bytes)
    if violations:
        raise OutreachError.invalid(*violations)
    if size_bytes > limits.file_bytes_max:
        raise _too_large(SIZE_FIELD, limits)


def _check_size(received_bytes: int, announced_bytes: int, limits: ContactLimits) -> None:
    if received_bytes > limits.file_bytes_max:
        raise _too_large("chunk", limits)
    require_not_longer(received_bytes, announced_bytes)


def _too_large(field: str, limits: ContactLimits) -> ContactFileError:
    return ContactFileError(
        "FILE_TOO_LARGE",
        field,
        f"The file is over {limits.file_bytes_max:,} bytes; split it.",
        {"bytes_max": str(limits.file_bytes_max)},
    )
