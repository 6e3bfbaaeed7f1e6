"""Take in a file of contacts. Nothing of it is stored unless all of it is right."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from outreach.errors import OutreachError, Violation
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction
from services.campaign.contacts.dialect import HEAD_BYTES_MAX, FileLayout
from services.campaign.contacts.errors import ContactLimits
from services.campaign.contacts.mapping import ColumnMapping, Mapping, resolve_mapping
from services.campaign.store import Connection, Pool
from services.campaign.store.contacts import Upload, lock_contacts, replace_upload
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.csv_file import require_csv, take_in
from services.campaign.usecases.guards import require_action, require_campaign


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
    require_csv(command.file_name, command.size_bytes, limits)
    async with pool.acquire() as connection:
        campaign = await require_campaign(connection, caller.organisation_id, command.campaign_id)
    require_action(campaign, CampaignAction.IMPORT_CONTACTS)

    def check(layout: FileLayout) -> None:
        if command.mapping is not None:
            require_mapping(command.mapping, layout, field="header.mapping.columns")

    with UploadSpool(HEAD_BYTES_MAX) as spool:
        layout = await take_in(
            spool,
            chunks,
            size_bytes=command.size_bytes,
            channel=campaign.channel,
            has_header=command.has_header,
            limits=limits,
            check=check,
        )
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
