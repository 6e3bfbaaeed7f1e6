"""The service killed in the middle of an import: the file is still there, and the caller notices nothing but time."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import psutil

from outreach.client import OutreachClient, Timeouts
from outreach.local.ports import free_port
from outreach.rpc.health_check import serving
from outreach.v1 import campaign_pb2, contact_pb2
from tests.contact_rig import csv_of, number
from tests.waiting import eventually

API_KEY = "a key for tests, of at least 32 characters"
ROWS = 60_000


@asynccontextmanager
async def campaign_service(dsn: str, port: int) -> AsyncIterator[psutil.Process]:
    """A real process, killed at the end of the block."""
    environment = {
        **os.environ,
        "OUTREACH_POSTGRES_DSN": dsn,
        "OUTREACH_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "OUTREACH_SECRET_KEY": "a secret for tests, of at least 32 characters",
        "OUTREACH_INTERNAL_TOKEN": "a token for tests",
        "OUTREACH_CAMPAIGN_GRPC_PORT": str(port),
        "OUTREACH_CAMPAIGN_INTERNAL_PORT": str(free_port()),
        "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": "Tests",
        "OUTREACH_BOOTSTRAP_API_KEY": API_KEY,
        "OUTREACH_BOOTSTRAP_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN": "0" * 32,
        "OUTREACH_BOOTSTRAP_TWILIO_FROM": "+15005550006",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.campaign", env=environment
    )
    try:
        await eventually(
            lambda: serving(f"127.0.0.1:{port}", timeout_seconds=10.0),
            timeout_seconds=240.0,
            what="the service serves",
        )
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_killed_in_the_middle_and_started_again(database_dsn: str) -> None:
    port = free_port()
    data = csv_of(*(f"{number(n)},Name {n}" for n in range(ROWS)))
    begun = asyncio.Event()

    def on_progress(_: contact_pb2.ImportProgress) -> None:
        begun.set()

    connection = await asyncpg.connect(database_dsn)
    async with OutreachClient(
        f"127.0.0.1:{port}", API_KEY, timeouts=Timeouts(retry_seconds_max=200)
    ) as client:
        async with campaign_service(database_dsn, port) as service:
            campaign = await client.create_campaign(
                name="Spring", sms=campaign_pb2.SmsContent(body="Hello {{name}}")
            )
            upload = await client.upload_contacts(campaign.id, data, consent_confirmed=True)
            importing = asyncio.create_task(
                client.import_contacts(campaign.id, upload.id, on_progress=on_progress)
            )
            await begun.wait()
            workers = service.children()
            service.kill()
        assert not importing.done()
        # The worker goes with the service, and the database forgets the half of the import.
        await eventually(lambda: not any(map(_runs, workers)), what="the worker is gone")
        assert await connection.fetchval("SELECT count(*) FROM contact") == 0
        assert await connection.fetchval("SELECT count(*) FROM upload") == 1
        async with campaign_service(database_dsn, port):
            result = await importing  # the client has been trying again, as the same request
    assert result.campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY
    assert result.campaign.contacts.imported == ROWS
    assert await connection.fetchval("SELECT count(DISTINCT number) FROM message") == ROWS
    assert await connection.fetchval("SELECT count(*) FROM upload_chunk") == 0
    await connection.close()


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
