"""Answers of mutating calls, by the caller's request id."""

from dataclasses import dataclass
from uuid import UUID

from outreach.postgres.queries import load_queries
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "requests.sql")

#: Rows removed by one call of `purge_request_log`.
PURGED_ROWS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names one request of one organisation; `hash` is that of its content."""

    organisation_id: UUID
    request_id: UUID
    method: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What an earlier call with the same id was, and what it answered."""

    method: str
    hash: bytes
    response: bytes


async def is_request_kept(connection: Connection, organisation_id: UUID, request_id: UUID) -> bool:
    """Whether a call with this id was done, so that a repeat of it gets its answer."""
    kept: bool = await connection.fetchval(QUERIES["is_request_kept"], organisation_id, request_id)
    return kept


async def begin_request(connection: Connection, key: RequestKey) -> KeptAnswer | None:
    """None: the request is new, and nobody else does it before this transaction ends."""
    begun = await connection.fetchval(
        QUERIES["begin_request"], key.organisation_id, key.request_id, key.method, key.hash
    )
    if begun is not None:
        return None
    row = await connection.fetchrow(QUERIES["get_request"], key.organisation_id, key.request_id)
    if row is None:  # purged between the two statements
        return await begin_request(connection, key)
    return KeptAnswer(row["method"], row["request_hash"], row["response"])


async def kept_answer(connection: Connection, key: RequestKey) -> KeptAnswer | None:
    """What an earlier call with the same id was; None: there was none within 24 hours."""
    row = await connection.fetchrow(QUERIES["kept_request"], key.organisation_id, key.request_id)
    return None if row is None else KeptAnswer(row["method"], row["request_hash"], row["response"])


async def finish_request(connection: Connection, key: RequestKey, response: bytes) -> None:
    """Keep the answer; committed together with what the request did."""
    await connection.execute(
        QUERIES["finish_request"], key.organisation_id, key.request_id, response
    )


async def purge_request_log(connection: Connection) -> int:
    """Remove answers older than 24 hours, at most PURGED_ROWS_MAX of them; gives how many."""
    status = await connection.execute(QUERIES["purge_requests"], PURGED_ROWS_MAX)
    return int(status.rpartition(" ")[2])
