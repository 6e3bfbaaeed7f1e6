"""`python -m services.export` as a process: its start, its health, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped] # has no types
    reflection_pb2,
    reflection_pb2_grpc,
)
from pydantic import SecretStr

from outreach.client import OutreachClient
from outreach.local.ports import free_port
from outreach.postgres.pool import create_pool
from outreach.rpc.channel import create_channel
from outreach.rpc.health_check import serving
from services.campaign.export_role import ensure_export_role
from tests.export_rig import ROLE_PASSWORD, add_organisation, export_dsn, whole
from tests.waiting import eventually


@asynccontextmanager
async def _process(**settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("OUTREACH_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.export",
        env={**own, **{f"OUTREACH_EXPORT_{name}": value for name, value in settings.items()}},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_waits_for_its_role_serves_and_ends_on_sigterm(database_dsn: str) -> None:
    owner = await create_pool(
        database_dsn, application_name="tests", connect_seconds_max=60, connections_min=1
    )
    await ensure_export_role(owner, SecretStr(ROLE_PASSWORD))
    await owner.execute("REVOKE SELECT ON export_message FROM outreach_export")
    port = free_port()
    address = f"127.0.0.1:{port}"
    async with _process(POSTGRES_DSN=export_dsn(database_dsn), GRPC_PORT=str(port)) as process:

        async def has_asked() -> bool:
            return bool(
                await owner.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'outreach_export'"
                    " AND datname = current_database()"
                )
            )

        await eventually(has_asked, 240)
        assert not await serving(address, timeout_seconds=1)
        # What a start of the campaign service does.
        await ensure_export_role(owner, None)
        await eventually(lambda: serving(address, timeout_seconds=10), 240)
        _, api_key = await add_organisation(owner)
        async with OutreachClient("127.0.0.1:9", api_key, export_address=address) as client:
            assert await whole(client.export_campaigns(columns=["id"])) == b"id\r\n"
        assert "outreach.v1.ExportService" in await _reflected(address)
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), 240)
        assert process.returncode == 0, err.decode()
        assert ROLE_PASSWORD.encode() not in out + err
    await owner.close()


async def _reflected(address: str) -> set[str]:
    async with create_channel(address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call: grpc.aio.StreamStreamCall[Any, Any] = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer: Any = await call.read()
        await call.done_writing()
        call.cancel()
    return {service.name for service in answer.list_services_response.service}


async def test_a_missing_setting_is_named() -> None:
    async with _process() as process:
        _, err = await process.communicate()
    assert process.returncode == 2
    assert b"OUTREACH_EXPORT_POSTGRES_DSN: Field required" in err
