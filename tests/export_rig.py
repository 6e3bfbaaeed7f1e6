"""The export service on a free port, on a real database, connected as its own role."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import orjson
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from outreach.client import OutreachClient
from outreach.postgres.pool import create_pool
from outreach.rpc.channel import create_channel
from outreach.v1 import export_pb2_grpc
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus, Role
from services.campaign.export_role import ensure_export_role
from services.export.app import drain, server_of, servicer_of, started_pool
from services.export.rpc.servicer import ExportServicer
from services.export.settings import Settings

ROLE_PASSWORD = "a-password-of-the-tests"
_COUNTS = [status.name.lower() for status in MessageStatus]


def export_dsn(dsn: str) -> str:
    """The database as the role of exports sees it."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"outreach_export:{ROLE_PASSWORD}@{host}"))


@dataclass(frozen=True)
class Stored:
    """One message, as it is in the database."""

    recipient: str
    variables: Sequence[str | None] = ()
    status: MessageStatus = MessageStatus.DELIVERED
    reason: FailureReason | None = None
    code: str | None = None
    provider_id: str | None = None
    run: int = 1
    attempt: int = 1


@dataclass
class ExportRig:
    """The service, an organisation and its client; `pool` may do everything."""

    dsn: str
    pool: Any
    organisation_id: UUID
    api_key: str
    address: str = ""
    servicer: ExportServicer = field(init=False)
    client: OutreachClient = field(init=False)
    stub: Any = field(init=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.api_key}"),)

    async def organisation(self, role: Role = Role.CAMPAIGNER) -> tuple[UUID, str]:
        """Another one, and its key."""
        return await add_organisation(self.pool, role)

    async def campaign(
        self,
        messages: Sequence[Stored] = (),
        *,
        names: Sequence[str] = (),
        channel: Channel = Channel.SMS,
        status: CampaignStatus = CampaignStatus.COMPLETE,
        name: str = "Autumn",
        description: str = "",
        run: int = 1,
        organisation_id: UUID | None = None,
        test_of: UUID | None = None,
    ) -> str:
        """A campaign with these messages; its id. Before the first run QUEUED ones count as WAITING."""
        key = UUID(str(uuid7()))
        shown = [
            MessageStatus.WAITING if run == 0 and m.status is MessageStatus.QUEUED else m.status
            for m in messages
        ]
        counts = [shown.count(each) for each in MessageStatus]
        columns = [{"name": "to", "role": 1, "variable_name": ""}]
        columns += [{"name": n, "role": 2, "variable_name": n} for n in names]
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO campaign (id, organisation_id, channel, name, description, status, run,"
                " missing_variable_policy, total, revision, holds_channel, start_time, test_of, "
                + ", ".join(_COUNTS)
                + ") VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, 7, $9, now(), $10, "
                + ", ".join(f"${n}" for n in range(11, 21))
                + ")",
                key, organisation_id or self.organisation_id, channel, name, description, status,
                run, len(messages), status is CampaignStatus.IN_PROGRESS, test_of, *counts,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO campaign_content (campaign_id, content_hash, content, columns)"
                " VALUES ($1, '', '{}', $2::text::jsonb)",
                key,
                orjson.dumps(columns).decode(),
            )
            await self._put(connection, key, messages)
        return str(key)

    async def _put(self, connection: Any, key: UUID, messages: Sequence[Stored]) -> None:
        await connection.executemany(
            "INSERT INTO contact VALUES ($1, $2, $3, $4, $5)",
            [
                (key, n, m.recipient, n.to_bytes(16, "big"), list(m.variables))
                for n, m in enumerate(messages, 1)
            ],
        )
        await connection.executemany(
            "INSERT INTO message (campaign_id, number, status, failure_reason, segments, run, attempt,"
            " claim_time, update_time, provider_message_id, provider_code) VALUES ($1, $2, $3, $4, $5,"
            " $6, $7, CASE WHEN $7 > 0 THEN timestamptz '2026-11-25 23:00:00.25+01' END,"
            " timestamptz '2026-11-25 22:00:01+00', $8, $9)",
            [
                (
                    key, n, m.status, m.reason, 1 if m.attempt else 0, m.run, m.attempt,
                    m.provider_id, m.code,
                )
                for n, m in enumerate(messages, 1)
            ],
        )  # fmt: skip


async def add_organisation(pool: Any, role: Role = Role.CAMPAIGNER) -> tuple[UUID, str]:
    """An organisation with a key of this role."""
    organisation_id, api_key = uuid4(), uuid4().hex + uuid4().hex
    await pool.execute("INSERT INTO organisation (id, name) VALUES ($1, 'Tests')", organisation_id)
    await pool.execute(
        "INSERT INTO api_key (key_hash, organisation_id, role, label) VALUES ($1, $2, $3, 'ann')",
        hashlib.sha256(api_key.encode()).digest(),
        organisation_id,
        role,
    )
    return organisation_id, api_key


def export_settings(dsn: str, **changes: Any) -> Settings:
    """On a free port, as the role."""
    return Settings.model_validate(
        {"export_postgres_dsn": export_dsn(dsn), "export_grpc_port": 0, **changes}
    )


@asynccontextmanager
async def export_rig(dsn: str, **changes: Any) -> AsyncIterator[ExportRig]:
    """The service until the block is left; `changes`: other settings than the default."""
    pool = await create_pool(dsn, application_name="export-rig", connections_max=4)
    try:
        await ensure_export_role(pool, SecretStr(ROLE_PASSWORD))
        rig = ExportRig(dsn, pool, *await add_organisation(pool))
        settings = export_settings(dsn, **changes)
        reading = await started_pool(settings)
        try:
            rig.servicer = servicer_of(settings, reading)
            server = server_of(settings, reading, rig.servicer)
            rig.address = f"127.0.0.1:{await server.start()}"
            async with (
                OutreachClient(
                    "127.0.0.1:9", rig.api_key, export_address=rig.address
                ) as rig.client,
                create_channel(rig.address) as channel,
            ):
                rig.stub = export_pb2_grpc.ExportServiceStub(channel)
                yield rig
            await drain(server, rig.servicer, seconds_max=0)
        finally:
            reading.terminate()
    finally:
        pool.terminate()


async def whole(export: Any) -> bytes:
    """All bytes of an export, whose checksum the client has compared."""
    return b"".join([chunk async for chunk in export])


def rows_of(data: bytes) -> list[list[str]]:
    """As any reader of CSV has them, header first."""
    csv.field_size_limit(64 * 1024 * 1024)
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def records_of(data: bytes) -> list[dict[str, str]]:
    """Rows by the header's names."""
    header, *rows = rows_of(data)
    return [dict(zip(header, row, strict=True)) for row in rows]
