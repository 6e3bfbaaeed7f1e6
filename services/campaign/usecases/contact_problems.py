"""What was wrong in the latest import: the first problems page by page, and all of them as CSV."""

import csv
import io
from collections.abc import AsyncGenerator, Iterable
from uuid import UUID

from outreach.rpc.call import Caller
from services.campaign.contacts.errors import ContactProblem
from services.campaign.store import Pool
from services.campaign.store.contacts import problems_after
from services.campaign.usecases.guards import require_campaign

#: Problems that can be read page by page (product rules: "Contacts and CSV").
LISTED_PROBLEMS_MAX = 1_000
CSV_HEADER = ("row", "column", "reason", "description")

#: A column's name may be as long as a field: so few rows that even then they are small.
_READ_PROBLEMS_MAX = 500
_PIECE_BYTES_MAX = 64 * 1024
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


async def list_problems(
    pool: Pool, caller: Caller, campaign_id: UUID, *, after: int, limit: int
) -> list[ContactProblem]:
    """In the order of the file, those after the ordinal `after`; none beyond the first 1,000.

    CAMPAIGN_NOT_FOUND.
    """
    limit = min(limit, LISTED_PROBLEMS_MAX - after)
    async with pool.acquire() as connection:
        await require_campaign(connection, caller.organisation_id, campaign_id)
        return await problems_after(connection, campaign_id, after, limit) if limit > 0 else []


async def problems_csv(pool: Pool, caller: Caller, campaign_id: UUID) -> AsyncGenerator[bytes]:
    """All of them as pieces of one CSV file (UTF-8, RFC 4180), at most 64 KiB each.

    Read a little at a time, with no connection held in between: the reader may be slow.
    CAMPAIGN_NOT_FOUND.
    """
    async with pool.acquire() as connection:
        await require_campaign(connection, caller.organisation_id, campaign_id)
    waiting = _csv_bytes([CSV_HEADER])
    after = 0
    while True:
        async with pool.acquire() as connection:
            problems = await problems_after(connection, campaign_id, after, _READ_PROBLEMS_MAX)
        waiting += _csv_bytes(map(_cells, problems))
        while len(waiting) >= _PIECE_BYTES_MAX or (waiting and not problems):
            yield waiting[:_PIECE_BYTES_MAX]
            waiting = waiting[_PIECE_BYTES_MAX:]
        if not problems:
            return
        after = problems[-1].ordinal


def _cells(problem: ContactProblem) -> tuple[str, ...]:
    cells = (str(problem.row_number), problem.column_name, problem.reason.value, problem.detail)
    return tuple(map(_inert, cells))


def _inert(cell: str) -> str:
    """The cell as text, also for a spreadsheet (OWASP: CSV injection)."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _csv_bytes(rows: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
