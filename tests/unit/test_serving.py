"""Following the health of a database ends when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from outreach.background import until_cancelled
from outreach.serving import follow_health


class Database:
    """Answers nothing; cancelled, it fails in its own way, as asyncpg may while a connection breaks."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def fetchval(self, statement: str) -> Any:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise asyncpg.InterfaceError("connection is closed") from None


async def test_a_database_that_swallows_the_cancellation_keeps_nobody_waiting() -> None:
    database = Database()
    health = follow_health(database, [])  # type: ignore[arg-type] # all that is asked of a pool
    following = asyncio.create_task(until_cancelled("health", health))
    await database.asked.wait()
    following.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait({following})
    assert following.cancelled()
