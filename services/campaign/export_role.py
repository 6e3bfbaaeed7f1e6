"""At start: the role that services/export reads by exists, can log in, and may read the views of exports.

With a password in the settings the role is made here and gets that password. Without, it is made by whoever administers
the server (docs/operations.md); what it may read is granted here all the same, because only the views' owner can.
"""

import base64
import hashlib
import hmac
import secrets

import asyncpg
import structlog
from pydantic import SecretStr

from outreach.postgres.queries import load_queries
from services.campaign.store import Connection, Pool

QUERIES = load_queries("services.campaign.store", "export_role.sql")
ROLE = "outreach_export"

_log = structlog.get_logger(__name__)
_SCRAM_ITERATIONS = 4_096
_SCRAM_SALT_BYTES = 16


async def ensure_export_role(pool: Pool, password: SecretStr | None) -> None:
    """Safe to repeat, from any replica. What is not allowed is logged: campaigns go on without exports."""
    for step in (_make, _grant):
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(QUERIES["lock_role"])
                await step(connection, password)
        except asyncpg.InsufficientPrivilegeError as error:
            _log.error("export role can't be set", role=ROLE, error=error.message)


async def _make(connection: Connection, password: SecretStr | None) -> None:
    if password is None:
        return
    if not await connection.fetchval(QUERIES["role_exists"]):
        await connection.execute(QUERIES["create_role"])
    verifier = scram_verifier(password.get_secret_value(), secrets.token_bytes(_SCRAM_SALT_BYTES))
    await connection.execute(await connection.fetchval(QUERIES["role_statement"], verifier))
    await connection.execute(QUERIES["read_only"])


async def _grant(connection: Connection, _password: SecretStr | None) -> None:
    if await connection.fetchval(QUERIES["role_exists"]):
        await connection.execute(QUERIES["grant_schema"])
        await connection.execute(QUERIES["grant_views"])


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL keeps of a password (RFC 5803), so that the password itself is in no statement and no log."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_, stored_, server_ = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt_}${stored_}:{server_}"
