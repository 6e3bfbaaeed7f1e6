"""What the log says of a pool that can't reach its database."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import structlog

from outreach.logs import configure_logs
from tests.waiting import eventually

RECIPIENT = "+14155550123"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root, of_pool = logging.getLogger(), logging.getLogger("asyncpg.pool")
    before = (root.handlers[:], root.level, of_pool.filters[:])
    yield
    root.handlers[:], root.level, of_pool.filters[:] = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


async def test_a_try_to_connect_that_failed_is_one_line(
    capsys: pytest.CaptureFixture[str], database_dsn: str
) -> None:
    """Known by asyncpg's own words; if they change, the traceback is back, and this test says so."""
    away = False

    async def connect(*arguments: Any, **options: Any) -> Any:
        if away:
            raise ConnectionRefusedError(RECIPIENT)
        return await asyncpg.connect(*arguments, **options)

    configure_logs(level="INFO", service="test")
    lines: list[str] = []

    def told() -> bool:
        lines.extend(capsys.readouterr().err.splitlines())
        return bool(lines)

    pool = await asyncpg.create_pool(database_dsn, min_size=1, max_size=2, connect=connect)
    try:
        away = True
        async with pool.acquire() as connection:
            connection.terminate()
        await eventually(told, 60, "a line")
    finally:
        await pool.close()
    line = json.loads(lines[0])
    assert (line["event"], line["error"]) == ("connections_not_restored", "ConnectionRefusedError")
    assert "exception" not in line
    assert RECIPIENT not in lines[0]
