"""Take in a file for an email campaign's recipients. Nothing of it is stored unless all of it is right."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from uuid_utils.compat import uuid7

from outreach.errors import OutreachError, Violation
from outreach.rpc.call import Caller
from services.campaign.domain.attachments import (
    ATTACHMENTS_MAX,
    check_content_type,
    check_file_name,
    content_type_of,
)
from services.campaign.domain.executables import executable_kind
from services.campaign.store import Connection, Pool
from services.campaign.store.attachments import (
    Attachment,
    AttachmentsUsed,
    NewAttachment,
    attachments_used,
    insert_attachment,
)
from services.campaign.store.campaigns import refresh_content_hash, set_edited
from services.campaign.store.requests import is_request_kept
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.guards import require_attachable, require_campaign
from services.campaign.usecases.upload_sizes import (
    SIZE_FIELD,
    require_not_longer,
    require_whole,
    size_violations,
)


@dataclass(frozen=True, slots=True)
class AttachCommand:
    """What is said before the file itself.

    `content_type` empty: by the name. `size_bytes` 0: not known. `sha256` None: not checked.
    """

    campaign_id: UUID
    file_name: str
    content_type: str
    size_bytes: int
    sha256: bytes | None
    request_id: UUID | None


def command_violations(command: AttachCommand) -> list[Violation]:
    """Every field at fault, before the file itself is looked at."""
    return [
        *check_file_name("header.file_name", command.file_name),
        *check_content_type("header.content_type", command.content_type),
        *size_violations(command.size_bytes),
    ]


def refused_header(violations: list[Violation]) -> OutreachError:
    """ATTACHMENT_TYPE_BLOCKED when the name's extension is all that is at fault, else INVALID_REQUEST."""
    first = violations[0]
    if len(violations) == 1 and first.reason == "ATTACHMENT_TYPE_BLOCKED":
        return OutreachError(
            first.reason, first.text, metadata={"rule": "extension"}, violations=violations
        )
    return OutreachError.invalid(*violations)


async def receive_attachment(
    pool: Pool,
    caller: Caller,
    command: AttachCommand,
    chunks: AsyncIterator[bytes],
    spool: UploadSpool,
    bytes_max: int,
) -> bytes:
    """The whole file, in `spool`; gives its SHA-256. What is wrong is said as soon as it is known.

    `bytes_max`: of all files of the campaign together. INVALID_REQUEST, CAMPAIGN_NOT_FOUND,
    ACTION_NOT_ALLOWED; ATTACHMENT_TYPE_BLOCKED, ATTACHMENTS_TOO_LARGE, FILE_TRUNCATED, FILE_EMPTY,
    ATTACHMENT_CHECKSUM_MISMATCH.
    """
    violations = command_violations(command)
    if violations:
        raise refused_header(violations)
    used = await _used_before(pool, caller, command)
    _require_room(SIZE_FIELD, used, command.size_bytes, bytes_max)
    digest = hashlib.sha256()
    async for chunk in chunks:
        require_not_longer(spool.size_bytes + len(chunk), command.size_bytes)
        _require_room("chunk", used, spool.size_bytes + len(chunk), bytes_max)
        digest.update(chunk)
        await spool.append(chunk)
    require_whole(spool.size_bytes, command.size_bytes)
    if not spool.size_bytes:
        raise _refused("FILE_EMPTY", "The file is empty.")
    if command.sha256 is not None and command.sha256 != digest.digest():
        raise _refused(
            "ATTACHMENT_CHECKSUM_MISMATCH",
            "The file that arrived does not have the checksum that was given. Upload it again.",
            {"sha256": digest.hexdigest()},
            field="header.sha256",
        )
    kind = await spool.looked_at(partial(executable_kind, size_bytes=spool.size_bytes))
    if kind is not None:
        raise _refused(
            "ATTACHMENT_TYPE_BLOCKED",
            f"The file is {kind}, whatever its name says; mail programs block those.",
            {"rule": "content"},
        )
    return digest.digest()


async def store_attachment(
    connection: Connection,
    caller: Caller,
    command: AttachCommand,
    spool: UploadSpool,
    sha256: bytes,
    bytes_max: int,
) -> Attachment:
    """The file as stored; the campaign has another version and another content hash.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ATTACHMENTS_TOO_LARGE.
    """
    # All again, and locked: the campaign may have been run, and other files may have come, meanwhile.
    campaign = await require_campaign(
        connection, caller.organisation_id, command.campaign_id, locked=True
    )
    require_attachable(campaign)
    used = await attachments_used(connection, campaign.id)
    _require_room("file", used, spool.size_bytes, bytes_max)
    new = NewAttachment(
        id=uuid7(),
        campaign_id=campaign.id,
        file_name=command.file_name,
        content_type=command.content_type.lower() or content_type_of(command.file_name),
        size_bytes=spool.size_bytes,
        sha256=sha256,
    )
    attachment = await insert_attachment(connection, new, spool.pieces())
    await refresh_content_hash(connection, campaign)
    await set_edited(connection, campaign.id)
    return attachment


async def _used_before(pool: Pool, caller: Caller, command: AttachCommand) -> AttachmentsUsed:
    """What the campaign has already, when a file may be added at all.

    A repeated request is let through: its file is among those already, its campaign may be running
    by now, and it is to get its first answer.
    """
    organisation_id, request_id = caller.organisation_id, command.request_id
    async with pool.acquire() as connection:
        used = await attachments_used(connection, command.campaign_id)
        # After the files were counted: a first call that ends between the two is then in neither.
        if request_id and await is_request_kept(connection, organisation_id, request_id):
            return AttachmentsUsed(0, 0)
        campaign = await require_campaign(connection, organisation_id, command.campaign_id)
    require_attachable(campaign)
    return used


def _require_room(field: str, used: AttachmentsUsed, size_bytes: int, bytes_max: int) -> None:
    """ATTACHMENTS_TOO_LARGE when so many bytes are too many beside those there are."""
    if used.count >= ATTACHMENTS_MAX:
        text = f"The campaign has {used.count:,} attachments; more are not listed in one answer."
    elif used.size_bytes + size_bytes > bytes_max:
        text = (
            f"All attachments may have {bytes_max:,} bytes together; "
            f"{max(0, bytes_max - used.size_bytes):,} are left."
        )
    else:
        return
    metadata = {"bytes_max": str(bytes_max), "bytes_used": str(used.size_bytes)}
    raise _refused("ATTACHMENTS_TOO_LARGE", text, metadata, field=field)


def _refused(
    reason: str, text: str, metadata: dict[str, str] | None = None, *, field: str = "file"
) -> OutreachError:
    return OutreachError(
        reason, text, metadata=metadata, violations=[Violation(field, reason, text)]
    )
