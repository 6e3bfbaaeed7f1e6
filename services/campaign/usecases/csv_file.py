"""A CSV file that comes in: kept on the local disk until it is whole, and refused as soon as it is
known to be wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from outreach.errors import OutreachError
from outreach.vocabulary import Channel
from services.campaign.contacts.dialect import FileLayout, detect_layout
from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.upload_sizes import (
    SIZE_FIELD,
    require_not_longer,
    require_whole,
    size_violations,
)

#: Looks at the layout once it is known, and raises what is wrong with it.
CheckLayout = Callable[[FileLayout], object]


def require_csv(file_name: str, size_bytes: int, limits: ContactLimits) -> None:
    """What the header says of the file. FILE_NOT_CSV, FILE_TOO_LARGE, INVALID_REQUEST."""
    if not file_name.lower().endswith(".csv"):
        raise ContactFileError(
            "FILE_NOT_CSV",
            "header.file_name",
            "The file's name has to end in .csv; export it as CSV.",
        )
    violations = size_violations(size_bytes)
    if violations:
        raise OutreachError.invalid(*violations)
    if size_bytes > limits.file_bytes_max:
        raise _too_large(SIZE_FIELD, limits)


async def take_in(
    spool: UploadSpool,
    chunks: AsyncIterator[bytes],
    *,
    size_bytes: int,
    channel: Channel,
    has_header: bool | None,
    limits: ContactLimits,
    check: CheckLayout,
) -> FileLayout:
    """Spool the file and tell its layout, which `check` sees as soon as enough of the file is here.

    FILE_NOT_CSV, FILE_EMPTY, FILE_HEADER_ONLY, FILE_TOO_LARGE, FILE_TRUNCATED, FILE_MALFORMED,
    ENCODING_UNKNOWN, TOO_MANY_COLUMNS, and what `check` raises.
    """

    async def detect(*, complete: bool) -> FileLayout:
        # A thread: it can take 100 ms of CPU, and other calls are served meanwhile.
        found = await asyncio.to_thread(
            detect_layout,
            spool.head,
            complete=complete,
            channel=channel,
            has_header=has_header,
            limits=limits,
        )
        check(found)
        return found

    layout: FileLayout | None = None
    async for chunk in chunks:
        received_bytes = spool.size_bytes + len(chunk)
        if received_bytes > limits.file_bytes_max:
            raise _too_large("chunk", limits)
        require_not_longer(received_bytes, size_bytes)
        await spool.append(chunk)
        if layout is None and spool.head_complete:
            layout = await detect(complete=False)
    require_whole(spool.size_bytes, size_bytes)
    return layout or await detect(complete=True)


def _too_large(field: str, limits: ContactLimits) -> ContactFileError:
    return ContactFileError(
        "FILE_TOO_LARGE",
        field,
        f"The file is over {limits.file_bytes_max:,} bytes; split it.",
        {"bytes_max": str(limits.file_bytes_max)},
    )
