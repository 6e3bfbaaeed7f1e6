"""Migrations, the pool, and the databases that tests get."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from outreach.local.ports import free_port
from outreach.postgres import pool as pool_module
from outreach.postgres.migrate import MIGRATIONS_DIR, MigrationFailed, migrate
from outreach.postgres.pool import (
    PostgresTooOld,
    PostgresUnavailable,
    connect_when_ready,
    create_pool,
)


@pytest.fixture
async def empty_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    name = f"outreach_test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f'CREATE DATABASE "{name}"')
    yield urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.close()


async def versions(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT version FROM schema_migrations ORDER BY version")
    await connection.close()
    return [row["version"] for row in rows]


async def test_replicas_that_migrate_at_once_all_succeed(empty_dsn: str) -> None:
    await asyncio.gather(*(migrate(empty_dsn) for _ in range(5)))
    expected = sorted(path.name.split("_")[0] for path in MIGRATIONS_DIR.glob("*.sql"))
    assert expected
    assert await versions(empty_dsn) == expected


async def test_a_failing_migration_says_why_and_keeps_those_before(
    empty_dsn: str, tmp_path: Path
) -> None:
    for name, up in [("1_good", "SELECT 1;"), ("2_bad", "CREATE TABLE half (); SELECT nonsense;")]:
        (tmp_path / f"{name}.sql").write_text(f"-- migrate:up\n{up}\n-- migrate:down\n")
    with pytest.raises(MigrationFailed, match='column "nonsense" does not exist') as caught:
        await migrate(empty_dsn, migrations_dir=tmp_path)
    assert empty_dsn not in str(caught.value)
    assert await versions(empty_dsn) == ["1"]
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    await connection.close()


async def test_a_server_that_is_away_is_told_in_time() -> None:
    dsn = f"postgresql://outreach@127.0.0.1:{free_port()}/outreach"
    with pytest.raises(PostgresUnavailable, match=r"no connection within 0\.5 s") as caught:
        await migrate(dsn, wait_seconds_max=0.5)
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_refusal_is_not_waited_out(postgres_dsn: str) -> None:
    dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path="/no_such_database"))
    async with asyncio.timeout(60):
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await connect_when_ready(dsn, wait_seconds_max=60)


async def test_the_pool_has_its_limits_and_names_itself(database_dsn: str) -> None:
    pool = await create_pool(
        database_dsn, application_name="test", connections_max=2, command_seconds_max=2.0
    )
    async with pool:
        settings = await pool.fetch(
            "SELECT name, setting FROM pg_settings WHERE name = ANY($1)",
            [
                "application_name",
                "idle_in_transaction_session_timeout",
                "tcp_keepalives_idle",
                "TimeZone",
            ],
        )
        with pytest.raises(TimeoutError):
            await pool.execute("SELECT pg_sleep(600)")
        assert pool.get_max_size() == 2
        running = await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'"
            " AND state = 'active' AND pid <> pg_backend_pid()"
        )
    assert {row["name"]: row["setting"] for row in settings} == {
        "application_name": "test",
        "idle_in_transaction_session_timeout": "20000",
        "tcp_keepalives_idle": "10",
        "TimeZone": "UTC",
    }
    assert running == 0


async def test_an_older_server_is_refused(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "SERVER_MAJOR_MIN", 99)
    with pytest.raises(PostgresTooOld, match=r"PostgreSQL 99 or newer is needed, .* is 18\."):
        await create_pool(database_dsn, application_name="test")


async def test_every_test_has_a_database_with_the_schema_and_no_rows(database_dsn: str) -> None:
    connection = await asyncpg.connect(database_dsn)
    rows = await connection.fetchval("SELECT count(*) FROM campaign")
    await connection.close()
    assert rows == 0
    assert await versions(database_dsn)
