"""Campaigns that are deleted for callers, and the rows that are left of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

from outreach.postgres.queries import load_queries
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "deletions.sql")

#: Rows deleted in one transaction: some 10 ms of work.
BATCH_ROWS_MAX: Final = 2_000
#: Of the change log, whose rows are of up to 5,000 messages each.
BATCH_COMMITS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class LeftRows:
    """A table with rows of deleted campaigns: by what they are found and deleted, a range at a time."""

    table: str
    first: LiteralString
    delete: LiteralString
    batch_rows_max: int = BATCH_ROWS_MAX


#: All tables with rows of a campaign that do not go with its own row, save for what stays for good.
LEFT: Final[Sequence[LeftRows]] = (
    LeftRows("message", QUERIES["first_message"], QUERIES["delete_messages"]),
    LeftRows("contact", QUERIES["first_contact"], QUERIES["delete_contacts"]),
    LeftRows("message_attempt", QUERIES["first_attempt"], QUERIES["delete_attempts"]),
    LeftRows("unknown_attempt", QUERIES["first_unknown"], QUERIES["delete_unknown"]),
    LeftRows("contact_problem", QUERIES["first_problem"], QUERIES["delete_problems"]),
    LeftRows("change_log", QUERIES["first_change"], QUERIES["delete_changes"], BATCH_COMMITS_MAX),
)


async def lock_to_delete(connection: Connection, organisation_id: UUID, campaign_id: UUID) -> None:
    """Until the transaction ends nobody else has to do with the campaign, if there is one."""
    await connection.execute(QUERIES["lock_to_delete"], organisation_id, campaign_id)


async def delete_campaign(connection: Connection, campaign_id: UUID) -> None:
    """Gone for callers with the commit; the rest is left to `delete_left`. Its row has to be locked."""
    await connection.execute(QUERIES["remember_deleted"], campaign_id)
    await connection.execute(QUERIES["delete_campaign"], campaign_id)


async def deleted_campaigns(connection: Connection, limit: int) -> list[UUID]:
    """Those of which something is left, the earliest first."""
    return [row["id"] for row in await connection.fetch(QUERIES["deleted_campaigns"], limit)]


async def delete_left(
    connection: Connection, campaign_id: UUID, rows: LeftRows, after: int
) -> int | None:
    """Delete the next batch of a table's rows, those numbered above `after`; gives up to which
    number none is left, or None when there was none any more.
    """
    # By number rather than "any 2,000": those would be sought among the ones deleted before.
    first: int | None = await connection.fetchval(rows.first, campaign_id, after)
    if first is None:
        return None
    last = first + rows.batch_rows_max - 1
    await connection.execute(rows.delete, campaign_id, first, last)
    return last


async def lock_deleted(connection: Connection, campaign_id: UUID) -> bool:
    """Until the transaction ends nobody else deletes its rows; False: somebody does, all are
    deleted, or an import that began before the deletion has not ended yet.
    """
    return await connection.fetchval(QUERIES["lock_deleted"], campaign_id) is not None


async def forget_deleted(connection: Connection, campaign_id: UUID) -> None:
    """Nothing is left of it."""
    await connection.execute(QUERIES["forget_deleted"], campaign_id)


async def expired_campaigns(
    connection: Connection, days: float, limit: int
) -> list[tuple[UUID, UUID]]:
    """Id and organisation of campaigns older than so many days."""
    rows = await connection.fetch(QUERIES["expired_campaigns"], days, limit)
    return [(row["id"], row["organisation_id"]) for row in rows]


async def lock_expired(connection: Connection, campaign_id: UUID, days: float) -> bool:
    """Lock it for deletion; False: it is not as old any more, is gone, or somebody is at it."""
    return await connection.fetchval(QUERIES["lock_expired"], campaign_id, days) is not None


async def campaigns_to_strip(connection: Connection, days: float, limit: int) -> list[UUID]:
    """Older than so many days, with contacts' data."""
    return [row["id"] for row in await connection.fetch(QUERIES["campaigns_to_strip"], days, limit)]


async def lock_to_strip(connection: Connection, campaign_id: UUID, days: float) -> bool:
    """False: it is not as old any more (it was run again), is gone, or somebody is at it."""
    return await connection.fetchval(QUERIES["lock_to_strip"], campaign_id, days) is not None


async def set_stripped(connection: Connection, campaign_id: UUID) -> None:
    """No contact of it has data any more."""
    await connection.execute(QUERIES["set_stripped"], campaign_id)
