"""How fast an uploaded file becomes contacts: `python -m bench.import_rate [rows]` (300,000).

Upload and import over gRPC, with the campaign service as a process of its own and a PostgreSQL that flushes to disk,
beside a bare COPY of the very same prepared rows into a table like `contact`, in the same run; each several times in
turn. And the peak memory of the service and of the import's worker, at 10,000 rows and at that many.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg
import psutil
import uvloop

from bench.contact_csv import contacts_csv, spec_of
from outreach.client import OutreachClient
from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.local.ports import free_port
from outreach.rpc.health_check import serving
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel
from services.campaign.contacts.copy_format import CONTACT_COLUMNS
from services.campaign.contacts.importer import ContactImport

API_KEY = "a key of the benchmark, at least 32 characters long"
ROUNDS = 3
FEW_ROWS = 10_000
AIM_ROWS_PER_SECOND = 20_000
SAMPLE_SECONDS = 0.02
CHUNK_BYTES = 64 * 1024
MIB = 2**20


@dataclass
class Service:
    """A campaign service under way, and the largest memory seen."""

    client: OutreachClient
    process: psutil.Process
    service_bytes: int = 0
    worker_bytes: int = 0

    async def sample(self) -> None:
        """Until cancelled."""
        while True:
            self.service_bytes = max(self.service_bytes, self.process.memory_info().rss)
            for worker in self.process.children():
                try:
                    self.worker_bytes = max(self.worker_bytes, worker.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            await asyncio.sleep(SAMPLE_SECONDS)


@asynccontextmanager
async def campaign_service(dsn: str) -> AsyncIterator[Service]:
    """A fresh process, until the block is left. It needs no NATS to import."""
    port = free_port()
    environment = {
        "OUTREACH_POSTGRES_DSN": dsn,
        "OUTREACH_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "OUTREACH_SECRET_KEY": "a secret of the benchmark, at least 32 characters",
        "OUTREACH_INTERNAL_TOKEN": "a token of the benchmark",
        "OUTREACH_LOG_LEVEL": "ERROR",
        "OUTREACH_CAMPAIGN_GRPC_PORT": str(port),
        "OUTREACH_CAMPAIGN_INTERNAL_PORT": str(free_port()),
        "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": "Benchmark",
        "OUTREACH_BOOTSTRAP_API_KEY": API_KEY,
        "OUTREACH_BOOTSTRAP_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN": "0" * 32,
        "OUTREACH_BOOTSTRAP_TWILIO_FROM": "+15005550006",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.campaign", env=environment
    )
    address = f"127.0.0.1:{port}"
    try:
        while not await serving(address, timeout_seconds=1.0):
            if process.returncode is not None:
                raise SystemExit("the campaign service ended")
            await asyncio.sleep(0.05)
        async with OutreachClient(address, API_KEY) as client:
            yield Service(client, psutil.Process(process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def upload_and_import(client: OutreachClient, data: bytes) -> tuple[float, float]:
    """Seconds of each; the campaign is the file's own."""
    campaign = await client.create_campaign(
        name="Benchmark", sms=campaign_pb2.SmsContent(body="Hello {{first_name}}")
    )
    began = time.perf_counter()
    upload = await client.upload_contacts(campaign.id, data, consent_confirmed=True)
    uploaded = time.perf_counter()
    result = await client.import_contacts(campaign.id, upload.id)
    ended = time.perf_counter()
    if result.campaign.status != campaign_pb2.CAMPAIGN_STATUS_READY:
        raise SystemExit(f"not READY: {result}")
    return uploaded - began, ended - uploaded


def prepared(data: bytes, round_: int) -> list[bytes]:
    """The COPY payloads of a file, as the import makes them."""
    spec = replace(spec_of(data, Channel.SMS), campaign_id=UUID(int=round_))
    running = ContactImport(spec)
    payloads = []
    for start in range(0, len(data), CHUNK_BYTES):
        payloads += [batch.contacts for batch in running.feed(data[start : start + CHUNK_BYTES])]
    payloads += [batch.contacts for batch in running.finish()]
    return [payload for payload in payloads if payload]


async def raw_copy(connection: Any, payloads: list[bytes]) -> float:
    """Seconds, in one transaction."""

    async def whole(payload: bytes) -> AsyncIterator[bytes]:
        yield payload

    began = time.perf_counter()
    async with connection.transaction():
        for payload in payloads:
            await connection.copy_to_table(
                "raw_contact", source=whole(payload), columns=CONTACT_COLUMNS, format="binary"
            )
    return time.perf_counter() - began


async def measure(dsn: str, data: bytes, *, rounds: int) -> tuple[list[list[float]], Service]:
    """Seconds of upload, import and bare COPY, a round each; memory over all of it."""
    async with campaign_service(dsn) as service:
        sampling = asyncio.create_task(service.sample())
        connection: Any = await asyncpg.connect(dsn)
        await connection.execute("DROP TABLE IF EXISTS raw_contact")
        await connection.execute("CREATE TABLE raw_contact (LIKE contact INCLUDING ALL)")
        figures = []
        for round_ in range(rounds):
            payloads = await asyncio.to_thread(prepared, data, round_)
            await connection.execute("CHECKPOINT")
            upload_seconds, import_seconds = await upload_and_import(service.client, data)
            await connection.execute("CHECKPOINT")
            figures.append([upload_seconds, import_seconds, await raw_copy(connection, payloads)])
        await connection.close()
        sampling.cancel()
    return figures, service


async def main(rows: int) -> int:
    server = EmbeddedPostgres(temporary_data_dir())
    try:
        async with server:
            few, few_memory = await measure(
                server.dsn, contacts_csv(FEW_ROWS, Channel.SMS), rounds=1
            )
            data = contacts_csv(rows, Channel.SMS)
            figures, memory = await measure(server.dsn, data, rounds=ROUNDS)
    finally:
        shutil.rmtree(server.data_dir)
    upload, imported, raw = (median(column) for column in zip(*figures, strict=True))
    print(f"{rows:,} rows, {len(data) / MIB:.1f} MiB; medians of {ROUNDS} rounds in turn")
    for what, seconds in (
        ("upload", upload),
        ("import", imported),
        ("upload and import", upload + imported),
        ("bare COPY of the same contacts", raw),
    ):
        print(f"{what:34} {rows / seconds:>12,.0f} rows/s {seconds:8.2f} s")
    print(f"{'import beside bare COPY':34} {raw / imported:>12.2f}")
    print(f"{'import of 10,000 rows':34} {few[0][1]:>21.2f} s")
    print(f"{'peak memory':34} {FEW_ROWS:>12,} {rows:>12,} rows")
    for what, small, large in (
        ("campaign service", few_memory.service_bytes, memory.service_bytes),
        ("import's worker", few_memory.worker_bytes, memory.worker_bytes),
    ):
        print(f"{what:34} {small / MIB:>8.0f} MiB {large / MIB:>8.0f} MiB {large / small:8.2f}x")
    return 0 if rows / imported >= AIM_ROWS_PER_SECOND else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)))
