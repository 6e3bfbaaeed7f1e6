"""How fast messages become a CSV file: `python -m bench.export_rate [rows …]` (10,000 and 1,000,000).

The export service as a process of its own, read by the client (which compares the checksum), beside a bare
`COPY … TO STDOUT` of the very same columns by the same role, in the same run, in turn. And the service's peak memory at
each size. Ends with 1 below 0.4 of the bare COPY, or when memory grows by more than a fifth.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import psutil
import uvloop
from pydantic import SecretStr

from outreach.client import OutreachClient
from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.local.ports import free_port
from outreach.postgres.migrate import migrate
from outreach.postgres.pool import create_pool
from outreach.rpc.health_check import serving
from services.campaign.export_role import ROLE, ensure_export_role

API_KEY = "a key of the benchmark, at least 32 characters long"
PASSWORD = "a-password-of-the-benchmark"
ROUNDS = 3
AIM = 0.4
GROWTH_MAX = 1.2
SAMPLE_SECONDS = 0.02
MIB = 2**20
BARE = """
    SELECT number, recipient, status, failure_reason, provider_code, provider_message_id, run, attempt, segments,
           claim_time, update_time, variables
    FROM export_message WHERE organisation_id = '{organisation}' AND campaign_id = '{campaign}' ORDER BY number
"""


async def filled(dsn: str, organisation: UUID, rows: int) -> UUID:
    """A campaign that is complete, with that many messages."""
    connection: Any = await asyncpg.connect(dsn)
    campaign = uuid4()
    columns = '[{"name": "to", "role": 1, "variable_name": ""}'
    for name in ("name", "city", "day"):
        columns += f', {{"name": "{name}", "role": 2, "variable_name": "{name}"}}'
    await connection.execute(
        "INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status, run, delivered,"
        " total, revision) VALUES ($1, $2, 1, 'Benchmark', 1, 5, 1, $3, $3, 1)",
        campaign, organisation, rows,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO campaign_content (campaign_id, content_hash, content, columns)"
        " VALUES ($1, '', '{}', $2::text::jsonb)",
        campaign, columns + "]",
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO contact SELECT $1, i, '+1500' || lpad(i::text, 7, '0'), decode(md5(i::text), 'hex'),"
        " ARRAY['Name' || i, 'City ' || i % 50, 'Some, day'] FROM generate_series(1, $2::int) AS i",
        campaign, rows, timeout=600,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO message SELECT $1, i, 6, NULL, 1, 1, 1, now() - interval '1 s', now(), NULL,"
        " 'SM' || md5(i::text), NULL FROM generate_series(1, $2::int) AS i",
        campaign, rows, timeout=600,
    )  # fmt: skip
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return campaign


@asynccontextmanager
async def export_service(dsn: str) -> AsyncIterator[tuple[OutreachClient, psutil.Process]]:
    """A fresh process, until the block is left."""
    port = free_port()
    environment = {
        "OUTREACH_EXPORT_POSTGRES_DSN": dsn,
        "OUTREACH_EXPORT_GRPC_PORT": str(port),
        "OUTREACH_LOG_LEVEL": "ERROR",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.export", env=environment, cwd=Path.cwd()
    )
    address = f"127.0.0.1:{port}"
    try:
        while not await serving(address, timeout_seconds=1.0):
            if process.returncode is not None:
                raise SystemExit("the export service ended")
            await asyncio.sleep(0.05)
        async with OutreachClient("127.0.0.1:9", API_KEY, export_address=address) as client:
            yield client, psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def exported(client: OutreachClient, campaign: UUID, rows: int) -> float:
    """Seconds, until the checksum was compared."""
    began = time.perf_counter()
    export = client.export_messages(str(campaign))
    async for _ in export:
        pass
    seconds = time.perf_counter() - began
    if export.end is None or export.end.rows != rows:
        raise SystemExit(f"not {rows} rows: {export.end}")
    return seconds


async def bare_copy(dsn: str, organisation: UUID, campaign: UUID) -> float:
    """Seconds."""
    connection: Any = await asyncpg.connect(dsn)
    query = BARE.format(organisation=organisation, campaign=campaign)

    async def drop(_data: bytes) -> None:
        return

    began = time.perf_counter()
    await connection.copy_from_query(query, output=drop, timeout=600)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def measure(owner: str, organisation: UUID, rows: int) -> tuple[float, float, int]:
    """Seconds of an export and of a bare COPY (medians), and the service's peak memory."""
    campaign = await filled(owner, organisation, rows)
    parts = urlsplit(owner)
    reader = parts._replace(netloc=f"{ROLE}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}").geturl()
    peak_bytes = 0
    async with export_service(reader) as (client, process):

        async def sample() -> None:
            nonlocal peak_bytes
            while True:
                peak_bytes = max(peak_bytes, process.memory_info().rss)
                await asyncio.sleep(SAMPLE_SECONDS)

        sampling = asyncio.create_task(sample())
        figures = [
            (
                await exported(client, campaign, rows),
                await bare_copy(reader, organisation, campaign),
            )
            for _ in range(ROUNDS)
        ]
        sampling.cancel()
    export, bare = (median(column) for column in zip(*figures, strict=True))
    return export, bare, peak_bytes


async def main(sizes: list[int]) -> int:
    server = EmbeddedPostgres(temporary_data_dir())
    organisation = uuid4()
    try:
        async with server:
            await migrate(server.dsn)
            pool = await create_pool(server.dsn, application_name="bench")
            await ensure_export_role(pool, SecretStr(PASSWORD))
            await pool.execute(
                "INSERT INTO organisation (id, name) VALUES ($1, 'Bench')", organisation
            )
            await pool.execute(
                "INSERT INTO api_key (key_hash, organisation_id, role, label)"
                " VALUES (sha256($1::bytea), $2, 1, 'bench')",
                API_KEY.encode(),
                organisation,
            )
            await pool.close()
            found = {size: await measure(server.dsn, organisation, size) for size in sizes}
    finally:
        shutil.rmtree(server.data_dir)
    print(f"{'rows':>12}{'export rows/s':>16}{'COPY rows/s':>16}{'share':>8}{'peak MiB':>10}")
    for size, (export, bare, peak) in found.items():
        print(
            f"{size:>12,}{size / export:>16,.0f}{size / bare:>16,.0f}{bare / export:>8.2f}{peak / MIB:>10.1f}"
        )
    export, bare, last = found[sizes[-1]]
    growth = last / found[sizes[0]][2]
    print(f"memory at {sizes[-1]:,} beside {sizes[0]:,}: {growth:.2f}x")
    return 0 if bare / export >= AIM and growth <= GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main([int(size) for size in sys.argv[1:]] or [10_000, 1_000_000])))
