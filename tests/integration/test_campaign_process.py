"""`python -m services.campaign` as a process."""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped] # has no types

from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.local.ports import free_port
from outreach.organisations import organisation_id
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.errors import from_status
from outreach.secrets import Secrets
from outreach.v1 import campaign_pb2, campaign_pb2_grpc, channel_pb2
from tests.waiting import eventually

SECRET_KEY = "a secret key of the tests, 32 characters"
API_KEY = "an api key of the tests, long enough"


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("OUTREACH_")}
    return {**own, **{f"OUTREACH_{key}": value for key, value in changes.items()}}


@asynccontextmanager
async def _process(
    settings: Mapping[str, str], program: Sequence[str] = ("-m", "services.campaign")
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        env=_environment(settings),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _state(channel: grpc.aio.Channel) -> str:
    """What health says, or why nobody answers."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def _until(channel: grpc.aio.Channel, state: str) -> None:
    async def is_so() -> bool:
        return await _state(channel) == state

    await eventually(is_so, 240, state)


async def test_it_starts_with_four_settings_and_no_nats_and_ends_on_sigterm(
    postgres_dsn: str, database_dsn: str
) -> None:
    port, internal_port = free_port(), free_port()
    settings = {
        "POSTGRES_DSN": database_dsn,
        "NATS_URL": "nats://127.0.0.1:9",
        "SECRET_KEY": SECRET_KEY,
        "INTERNAL_TOKEN": "token",
        "CAMPAIGN_GRPC_PORT": str(port),
        "CAMPAIGN_INTERNAL_PORT": str(internal_port),
    }
    async with _process(settings) as process:
        for each in (port, internal_port):
            channel = create_channel(f"127.0.0.1:{each}")
            try:
                await _until(channel, "SERVING")
            finally:
                await channel.close()
        process.send_signal(signal.SIGTERM)
        _, logs = await asyncio.wait_for(process.communicate(), 240)
        assert process.returncode == 0, logs.decode()
        assert SECRET_KEY.encode() not in logs


#: Its task ends without an error, which a TaskGroup takes for its good end.
_DISPATCHER_THAT_ENDS = """
import sys
from services.campaign.__main__ import main
from services.campaign.delivery.dispatcher import Dispatcher
async def run(self): return None
Dispatcher.run = run
sys.exit(main())
"""


async def test_a_part_that_ends_by_itself_ends_the_process(database_dsn: str) -> None:
    settings = {
        "POSTGRES_DSN": database_dsn,
        "NATS_URL": "nats://127.0.0.1:9",
        "SECRET_KEY": SECRET_KEY,
        "INTERNAL_TOKEN": "token",
        "CAMPAIGN_GRPC_PORT": str(free_port()),
        "CAMPAIGN_INTERNAL_PORT": str(free_port()),
    }
    async with _process(settings, ("-c", _DISPATCHER_THAT_ENDS)) as process:
        _, logs = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 1, logs.decode()
    assert b'"task": "dispatcher"' in logs
    assert b"background_task_ended" in logs
    assert b"Traceback" not in logs


async def test_it_sets_up_the_organisation_that_the_settings_name(database_dsn: str) -> None:
    port = free_port()
    settings = {
        "POSTGRES_DSN": database_dsn,
        "NATS_URL": "nats://127.0.0.1:9",
        "SECRET_KEY": SECRET_KEY,
        "INTERNAL_TOKEN": "token",
        "CAMPAIGN_GRPC_PORT": str(port),
        "CAMPAIGN_INTERNAL_PORT": "0",
        "BOOTSTRAP_ORGANISATION_NAME": "Example",
        "BOOTSTRAP_API_KEY": API_KEY,
        "BOOTSTRAP_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "BOOTSTRAP_TWILIO_AUTH_TOKEN": "twilio token",
        "BOOTSTRAP_TWILIO_FROM": "+15005550006",
        "BOOTSTRAP_SEGMENTS_PER_SECOND_MAX": "10",
    }
    connection = await asyncpg.connect(database_dsn)
    try:
        await connection.execute(
            "INSERT INTO organisation VALUES ($1, 'Example')", organisation_id("Example")
        )
        await connection.execute(
            "INSERT INTO api_key VALUES ($1, $2, 1, 'bootstrap')",
            hashlib.sha256(b"an earlier key").digest(),
            organisation_id("Example"),
        )
        async with _process(settings):
            channel = create_channel(f"127.0.0.1:{port}")
            try:
                await _until(channel, "SERVING")
                stub: Any = campaign_pb2_grpc.CampaignServiceStub(channel)
                request = campaign_pb2.CreateCampaignRequest(
                    campaign=campaign_pb2.Campaign(name="A", channel=channel_pb2.CHANNEL_SMS)
                )
                created = await stub.CreateCampaign(request, metadata=bearer(API_KEY), timeout=60)
                assert created.id
            finally:
                await channel.close()
        account = await connection.fetchrow("SELECT * FROM provider_account")
        assert account is not None
        assert account["organisation_id"] == organisation_id("Example")
        assert account["segments_per_second_max"] == 10
        assert b"twilio token" not in account["secret"]
        assert Secrets(SECRET_KEY).decrypt(account["secret"]) == b"twilio token"
        keys = await connection.fetch("SELECT key_hash FROM api_key")
        assert [row["key_hash"] for row in keys] == [hashlib.sha256(API_KEY.encode()).digest()]
    finally:
        await connection.close()


async def test_it_outlives_its_database_and_says_so() -> None:
    port = free_port()
    data_dir = temporary_data_dir()
    postgres = EmbeddedPostgres(data_dir, durable=False)
    settings = {
        "POSTGRES_DSN": postgres.dsn,
        "NATS_URL": "nats://127.0.0.1:9",
        "SECRET_KEY": SECRET_KEY,
        "INTERNAL_TOKEN": "token",
        "CAMPAIGN_GRPC_PORT": str(port),
        "CAMPAIGN_INTERNAL_PORT": "0",
        "BOOTSTRAP_ORGANISATION_NAME": "Example",
        "BOOTSTRAP_API_KEY": API_KEY,
    }
    channel = create_channel(f"127.0.0.1:{port}")

    async def listed() -> str:
        stub: Any = campaign_pb2_grpc.CampaignServiceStub(channel)
        request = campaign_pb2.ListCampaignsRequest()
        try:
            await stub.ListCampaigns(request, metadata=bearer(API_KEY), timeout=60)
        except grpc.aio.AioRpcError as error:
            return from_status(error).reason
        return "OK"

    try:
        # Begun before its database is there: it waits.
        async with _process(settings) as process:
            async with postgres:
                await _until(channel, "SERVING")
                assert await listed() == "OK"
            await _until(channel, "NOT_SERVING")
            assert await listed() == "STORE_UNAVAILABLE"
            async with EmbeddedPostgres(data_dir, postgres.port, durable=False):
                await _until(channel, "SERVING")
                assert await listed() == "OK"
                assert process.returncode is None
                process.send_signal(signal.SIGTERM)
                _, logs = await asyncio.wait_for(process.communicate(), 240)
                assert process.returncode == 0, logs.decode()
    finally:
        await channel.close()
        shutil.rmtree(data_dir)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "OUTREACH_POSTGRES_DSN"),
        ({"SECRET_KEY": "short secret"}, "OUTREACH_SECRET_KEY"),
        ({"BOOTSTRAP_API_KEY": API_KEY}, "BOOTSTRAP_ORGANISATION_NAME"),
    ],
)
async def test_wrong_settings_are_named_and_not_shown(changes: dict[str, str], named: str) -> None:
    settings = {"NATS_URL": "x", "SECRET_KEY": SECRET_KEY, "INTERNAL_TOKEN": "t"}
    if changes:
        settings["POSTGRES_DSN"] = "postgres://x"
    async with _process({**settings, **changes}) as process:
        _, output = await asyncio.wait_for(process.communicate(), 240)
        assert process.returncode == 2
        assert named in output.decode()
        assert "short secret" not in output.decode()
        assert "Traceback" not in output.decode()
