"""How much a large campaign's deletion disturbs a running one: `python -m bench.delete_disturbance [rows]`.

The running campaign is what a sender does with the database: claims of 100, each reported as accepted, as fast as they
are committed (fsync on). Meanwhile 300,000 messages and contacts of another campaign are deleted in the background, and
held back every other second: so each second has an undisturbed one beside it, and a machine that others use too counts
for both. Given are the rates' medians and their ratio; with the pauses that the service makes, and without any.
"""

import asyncio
import shutil
import sys
import time
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import uvloop

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.postgres.migrate import migrate
from outreach.postgres.pool import create_pool
from outreach.rpc.call import Caller
from outreach.vocabulary import Role
from services.campaign.deletions import REST_TIMES, Deletions
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.reports import Reports
from services.campaign.store import Pool
from services.campaign.usecases.delete_campaign import DeleteCommand, delete_campaign

CLAIM_MESSAGES = 100
SLICE_SECONDS = 1.0
RUNNING_MESSAGES = 600_000


class Silent:
    """Nobody watches."""

    async def campaign_changed(
        self, organisation_id: UUID, campaign_id: UUID, revision: int
    ) -> None:
        """Nothing."""


async def add_campaign(pool: Pool, organisation_id: UUID, messages: int, *, running: bool) -> UUID:
    """Of contacts as an import makes them; IN_PROGRESS, or COMPLETE."""
    campaign_id = uuid4()
    await pool.execute(
        "INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status, holds_channel,"
        " queued, delivered, total, run, revision, start_time, end_time)"
        " VALUES ($1, $2, 1, 'Benchmark', 1, $3, $4, $5, $6, $7, 1, 1, now(), now())",
        campaign_id,
        organisation_id,
        3 if running else 5,
        running,
        messages if running else 0,
        0 if running else messages,
        messages,
    )
    await pool.execute(
        "INSERT INTO campaign_content (campaign_id, content_hash, content) VALUES ($1, 'x', '{}')",
        campaign_id,
    )
    await pool.execute(
        "INSERT INTO contact SELECT $1, n, '+1500' || lpad(n::text, 7, '0'), decode(md5(n::text), 'hex'),"
        " ARRAY['Name ' || n] FROM generate_series(1, $2::int) AS n",
        campaign_id,
        messages,
        timeout=300,
    )
    await pool.execute(
        "INSERT INTO message (campaign_id, number, status, attempt) SELECT $1, n, $3, $4"
        " FROM generate_series(1, $2::int) AS n",
        campaign_id,
        messages,
        2 if running else 6,
        0 if running else 1,
        timeout=300,
    )
    return campaign_id


class Running:
    """Claims and reports of one sender, one after another, as long as it is asked."""

    def __init__(self, pool: Pool, campaign_id: UUID) -> None:
        self._claims = Claims(pool, Silent())
        self._reports = Reports(
            pool, Silent(), recipient_key=b"of the benchmark", look_up_after_seconds=20.0
        )
        self._campaign_id = campaign_id
        self._instance = uuid4()
        self._first = 1
        self.messages = 0
        self.over = asyncio.Event()

    async def run(self) -> None:
        """Until `over` is set; `messages` grows with each commit of a report."""
        self.over.clear()
        while not self.over.is_set():
            last = self._first + CLAIM_MESSAGES - 1
            claimed = await self._claims.claim(
                self._instance, self._campaign_id, 1, self._first, last, CLAIM_MESSAGES
            )
            if not claimed.messages:
                raise SystemExit("the running campaign is over; give fewer rows")
            part = pb.CampaignReports(
                campaign_id=str(self._campaign_id),
                reports=[
                    pb.Report(
                        number=message.number,
                        attempt=message.attempt,
                        outcome=pb.OUTCOME_ACCEPTED,
                        provider_message_id=f"SM{message.number:032d}",
                        segments=1,
                    )
                    for message in claimed.messages
                ],
            )
            await self._reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
            self._first = last + 1
            self.messages += len(claimed.messages)


class HeldBack(Deletions):
    """Goes on only while `gate` is set."""

    def __init__(self, pool: Pool, *, rest_times: float) -> None:
        super().__init__(pool, rest_times=rest_times)
        self.gate = asyncio.Event()

    async def _rest(self, took_seconds: float) -> None:
        await super()._rest(took_seconds)
        await self.gate.wait()


async def rates(running: Running, deletions: HeldBack) -> tuple[list[float], list[float]]:
    """Messages a second of each second, without and with the deletion, until that is over."""
    deleting = asyncio.create_task(deletions.sweep())
    without: list[float] = []
    beside: list[float] = []
    while not deleting.done():
        for figures in (without, beside):
            deletions.gate.set() if figures is beside else deletions.gate.clear()
            began, before = time.perf_counter(), running.messages
            await asyncio.sleep(SLICE_SECONDS)
            figures.append((running.messages - before) / (time.perf_counter() - began))
    await deleting
    # The last ones may have been after the end.
    return without[:-1], beside[:-1]


async def measure(pool: Any, rows: int) -> None:
    organisation_id = uuid4()
    await pool.execute("INSERT INTO organisation (id, name) VALUES ($1, 'Bench')", organisation_id)
    running = Running(
        pool, await add_campaign(pool, organisation_id, RUNNING_MESSAGES, running=True)
    )
    await pool.execute("VACUUM ANALYZE", timeout=300)
    caller = Caller(organisation_id=organisation_id, role=Role.CAMPAIGNER, key_label="benchmark")
    print(
        f"deletion of {rows:,} messages and contacts beside a running campaign, every other second"
    )
    print("deletion        undisturbed/s  with deletion/s  ratio  call ms  seconds of deletion")
    for what, rest_times in (("as it is", REST_TIMES), ("without pauses", 0.0)):
        campaign_id = await add_campaign(pool, organisation_id, rows, running=False)
        await pool.execute("CHECKPOINT", timeout=300)
        sending = asyncio.create_task(running.run())
        began = time.perf_counter()
        async with pool.acquire() as connection, connection.transaction():
            await delete_campaign(connection, caller, DeleteCommand(campaign_id, ""))
        called_seconds = time.perf_counter() - began
        without, beside = await rates(running, HeldBack(pool, rest_times=rest_times))
        running.over.set()
        await sending
        alone, disturbed = median(without), median(beside)
        print(
            f"{what:<15} {alone:>13,.0f} {disturbed:>16,.0f} {disturbed / alone:>6.2f}"
            f" {called_seconds * 1_000:>8.1f} {len(beside) * SLICE_SECONDS:>20.0f}"
        )


async def main(rows: int) -> int:
    server = EmbeddedPostgres(temporary_data_dir())
    try:
        async with server:
            await migrate(server.dsn)
            pool = await create_pool(server.dsn, application_name="bench", connections_max=8)
            await measure(pool, rows)
            await pool.close()
    finally:
        shutil.rmtree(server.data_dir)
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)))
