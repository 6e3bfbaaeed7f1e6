"""The role of exports: what it may read, that it can write nothing, and how it is made."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError

from outreach.postgres.pool import create_pool
from services.campaign.export_role import ROLE, ensure_export_role, scram_verifier
from tests.campaign_service import settings
from tests.export_rig import ROLE_PASSWORD, export_dsn, export_rig

VIEWS = {"export_key", "export_campaign", "export_variables", "export_message"}


@pytest.fixture
async def owner(database_dsn: str) -> AsyncIterator[Any]:
    pool = await create_pool(database_dsn, application_name="tests", connect_seconds_max=60)
    yield pool
    await pool.close()


@pytest.fixture
async def reader(database_dsn: str, owner: Any) -> AsyncIterator[Any]:
    """A connection as the role."""
    await ensure_export_role(owner, SecretStr(ROLE_PASSWORD))
    connection = await asyncpg.connect(export_dsn(database_dsn))
    yield connection
    await connection.close()


async def test_it_reads_the_views_and_no_table(owner: Any, reader: Any) -> None:
    relations = {
        row["relname"]
        for row in await owner.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'p')"
            " AND relnamespace = 'public'::regnamespace"
        )
    }
    assert relations > VIEWS
    readable = set()
    for name in relations:
        try:
            await reader.fetch(f'SELECT * FROM "{name}" LIMIT 1')
        except asyncpg.InsufficientPrivilegeError:
            continue
        readable.add(name)
    assert readable == VIEWS


async def test_no_view_has_a_secret_or_a_template(owner: Any) -> None:
    columns = {
        row["attname"]
        for row in await owner.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = ANY ($1::regclass[]) AND attnum > 0",
            sorted(VIEWS),
        )
    }
    assert not columns & {"secret", "content", "compiled", "recipient_hash", "consent_by"}
    for view in VIEWS:
        assert await owner.fetchval(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = $1::regclass"
            " AND attname = 'organisation_id'",
            view,
        ), view


@pytest.mark.parametrize("read_only", [True, False])
async def test_it_writes_nothing_also_when_it_says_that_it_will(
    owner: Any, reader: Any, read_only: bool
) -> None:
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"
    if not read_only:
        await reader.execute("SET default_transaction_read_only = off")
    for table in ("campaign", "message", "contact", "api_key", *sorted(VIEWS)):
        for statement in (
            f"DELETE FROM {table}",
            f"INSERT INTO {table} DEFAULT VALUES",
            f"TRUNCATE {table}",
            f"DROP VIEW {table}" if table in VIEWS else f"DROP TABLE {table}",
        ):
            with pytest.raises(asyncpg.PostgresError):
                await reader.execute(statement)
    for statement in (
        "CREATE TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "UPDATE export_campaign SET name = 'x'",
        f"GRANT SELECT ON campaign TO {ROLE}",
        "SET ROLE postgres",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT pg_read_file('/etc/hostname')",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await reader.execute(statement)
    attributes = await owner.fetchrow(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolinherit"
        " FROM pg_roles WHERE rolname = $1",
        ROLE,
    )
    assert not any(attributes)


async def test_replicas_may_make_it_at_the_same_time_and_a_new_password_counts(
    owner: Any, database_dsn: str
) -> None:
    await asyncio.gather(*(ensure_export_role(owner, SecretStr(ROLE_PASSWORD)) for _ in range(6)))
    before = await owner.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", ROLE)
    await ensure_export_role(owner, SecretStr("another-password"))
    after = await owner.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", ROLE)
    assert before.startswith("SCRAM-SHA-256$4096:")
    assert before != after
    salt = after.split(":")[1].partition("$")[0]
    assert after == scram_verifier("another-password", base64.b64decode(salt))


async def test_a_role_that_another_made_gets_its_rights(owner: Any, database_dsn: str) -> None:
    await ensure_export_role(owner, SecretStr(ROLE_PASSWORD))
    await owner.execute(f"REVOKE SELECT ON export_message FROM {ROLE}")
    await ensure_export_role(owner, None)
    connection = await asyncpg.connect(export_dsn(database_dsn))
    assert await connection.fetch("SELECT * FROM export_message") == []
    await connection.close()


async def test_an_owner_who_may_make_no_role_is_told_and_goes_on(
    owner: Any, database_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As at a managed server."""
    await ensure_export_role(owner, SecretStr(ROLE_PASSWORD))
    user = "outreach_test_plain_owner"
    await owner.execute(f"DROP ROLE IF EXISTS {user}")
    await owner.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'x'")
    parts = urlsplit(database_dsn)
    host = parts.netloc.rpartition("@")[2]
    plain = await create_pool(
        parts._replace(netloc=f"{user}:x@{host}").geturl(), application_name="tests"
    )
    try:
        await ensure_export_role(plain, SecretStr(ROLE_PASSWORD))
    finally:
        await plain.close()
        await owner.execute(f"DROP ROLE {user}")
    told = capsys.readouterr()
    assert "export role can't be set" in told.out + told.err
    assert ROLE_PASSWORD not in told.out + told.err


async def test_a_restricted_database_is_opened_for_it(database_dsn: str, owner: Any) -> None:
    await owner.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    async with export_rig(database_dsn) as rig:
        assert [chunk async for chunk in rig.client.export_campaigns(columns=["id"])]


def test_a_password_that_postgres_would_change_is_refused(database_dsn: str) -> None:
    with pytest.raises(ValidationError):
        settings(database_dsn, export_role_password="ünicode-password-x")
    with pytest.raises(ValidationError):
        settings(database_dsn, export_role_password="short")
