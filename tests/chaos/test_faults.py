"""Each fault does to a real stack what it says, and the stack is whole again afterwards.

One stack for all, each fault injected by itself; what becomes of campaigns under them is another matter
(`python -m chaos`).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aiohttp
import asyncpg
import orjson
import pytest
import pytest_asyncio
from nats.js.errors import NotFoundError, ServiceUnavailableError

from chaos.control import Crash
from chaos.faults import Fault
from chaos.faults.clocks import ClockJump
from chaos.faults.crash_points import Crashed
from chaos.faults.jetstream import DiskFull, JobsRedelivered, RolledBack, StoreFull, Wiped
from chaos.faults.links import Cut, HalfOpen, Refuse, ResetMidFrame, Stall, Trickle
from chaos.faults.processes import Hung, Killed
from chaos.faults.provider import Outage
from chaos.relay import BOTH, Direction
from chaos.stack import ChaosOptions, ChaosStack
from outreach.client import CallError, OutreachClient
from outreach.jetstream.connection import NATS_FAULTS
from outreach.jetstream.topology import INBOX_STREAM
from outreach.local.sandbox_client import SandboxClient
from outreach.local.supervisor import EventKind
from services.sandbox.knobs import Knobs
from tests.campaign_history import SEED, SHORT_TIMERS, History, recipients
from tests.waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

#: Of the inbox stream, and forwarded by nobody.
SUBJECT = "outreach.inbox.chaos"
#: Short, and long enough for a test to see what it does on a machine that is ten times slower.
QUICK_SECONDS = 6.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[ChaosStack]:
    options = ChaosOptions(durable=False, settings=SHORT_TIMERS, seed=SEED)
    async with ChaosStack(options) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: ChaosStack) -> AsyncIterator[OutreachClient]:
    async with stack.client() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(stack: ChaosStack) -> AsyncIterator[SandboxClient]:
    async with stack.local.sandbox_client() as made:
        yield made


async def hangs(call: Awaitable[object], seconds: float = 0.4) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await call


async def begun(fault: Fault, stack: ChaosStack) -> asyncio.Task[None]:
    """The fault under way; its first step is done when it waits for the first time."""
    injecting = asyncio.create_task(fault.inject(stack))
    await asyncio.sleep(0)
    return injecting


async def stored(stack: ChaosStack) -> str:
    """Stores a message that nobody forwards; its content. Waits for JetStream to take it."""
    text = uuid4().hex

    async def taken() -> bool:
        try:
            await stack.nats.jetstream.publish(SUBJECT, text.encode(), timeout=2)
        except NATS_FAULTS:
            return False
        return True

    await eventually(taken, 120, "JetStream stores again")
    return text


async def in_store(stack: ChaosStack) -> set[str]:
    """What the test has stored and not taken."""
    state = (await stack.nats.jetstream.stream_info(INBOX_STREAM)).state
    found = set()
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            message = await stack.nats.jetstream.get_msg(INBOX_STREAM, sequence)
        except NotFoundError:
            continue
        if message.subject == SUBJECT and message.data is not None:
            found.add(message.data.decode())
    return found


async def test_a_crash_point_ends_the_process_there_and_jobs_come_again(
    stack: ChaosStack, client: OutreachClient, sandbox: SandboxClient
) -> None:
    """A sender dies with the first answer in its memory; then every job of the run is published again."""
    history = History(client, sandbox, Knobs(latency_ms=400), recipients(301, 200))
    history.in_doubt_max = 100
    await history.prepare()
    crash = Crashed(
        kind="crash-at:request-answered",
        target="sender-sms",
        processes=("sender-sms-1",),
        crash=Crash("request-answered", 50),
        seconds_max=120.0,
    )
    injecting = await begun(crash, stack)
    await history.run()
    await injecting
    assert stack.crashes == [("sender-sms-1", "request-answered")]
    died = [
        event.returncode
        for event in stack.local.supervisor.events
        if (event.name, event.kind) == ("sender-sms-1", EventKind.DIED)
    ]
    assert died == [-signal.SIGKILL]
    await history.end()
    jobs = len(stack.published_jobs)
    assert jobs > 0
    await JobsRedelivered(kind="jobs-redelivered", target="nats", rounds=1, seed=1).inject(stack)
    await eventually(lambda: len(stack.published_jobs) > jobs)
    await history.end()
    assert (await sandbox.ledger())["attempts_accepted_more_than_once"] == 0


async def test_a_killed_process_is_another_one(stack: ChaosStack) -> None:
    before = stack.local.supervisor.pid("export-1")
    await Killed(kind="kill-export", target="export-1").inject(stack)
    assert stack.local.supervisor.pid("export-1") not in (None, before)


async def test_a_hung_postgres_answers_nothing_and_then_goes_on(
    stack: ChaosStack, client: OutreachClient
) -> None:
    connection = await asyncpg.connect(stack.local.postgres_dsn)
    try:
        hung = Hung(kind="hang-postgres", target="postgres", seconds=QUICK_SECONDS)
        injecting = await begun(hung, stack)
        query = asyncio.create_task(connection.fetchval("SELECT 1"))
        await hangs(asyncio.shield(query))
        await hangs(asyncpg.connect(stack.local.postgres_dsn), 0.2)
        assert not injecting.done()
        await injecting
        assert await query == 1
    finally:
        await connection.close()
    await client.get_disclaimer()


async def test_a_stalled_link_holds_a_call_and_then_answers_it(
    stack: ChaosStack, client: OutreachClient
) -> None:
    await client.get_disclaimer()
    stall = Stall(
        kind="link-stall",
        target="client to campaign-1",
        seconds=QUICK_SECONDS,
        directions=BOTH,
    )
    injecting = await begun(stall, stack)
    call = asyncio.create_task(client.get_disclaimer())
    await hangs(asyncio.shield(call))
    await injecting
    assert (await call).version


@pytest.mark.parametrize(
    "fault",
    [
        Cut(kind="link-cut", target="campaign-1 to postgres", times=2),
        ResetMidFrame(
            kind="link-reset-mid-frame",
            target="client to campaign-1",
            direction=Direction.DOWN,
            seed=1,
        ),
        Trickle(kind="link-trickle", target="campaign-1 to postgres", seconds=0.5, chunk_bytes=7),
        Refuse(kind="link-refuse", target="client to campaign-1", seconds=0.5),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_client_comes_through_a_link_s_fault(
    stack: ChaosStack, client: OutreachClient, fault: Fault
) -> None:
    injecting = await begun(fault, stack)
    call = asyncio.create_task(client.get_disclaimer())
    await injecting
    assert (await call).version
    assert (await client.get_disclaimer()).version


async def test_a_sender_finds_out_by_itself_that_nats_has_forgotten_it(stack: ChaosStack) -> None:
    async def is_known() -> bool:
        url = f"http://127.0.0.1:{stack.local.nats.monitoring_port}/connz"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            connections = (await answer.json())["connections"]
        return "sender_sms" in {connection["name"] for connection in connections}

    async def is_forgotten() -> bool:
        return not await is_known()

    await eventually(is_known, what="the sender is connected")
    half_open = HalfOpen(
        kind="link-half-open",
        target="sender-sms-1 to nats",
        seconds=QUICK_SECONDS,
        gone=Direction.UP,
    )
    injecting = await begun(half_open, stack)
    await eventually(is_forgotten)
    await injecting
    await eventually(is_known, 120, "the sender has connected again")


async def test_a_wiped_store_is_empty(stack: ChaosStack) -> None:
    text = await stored(stack)
    await Wiped(kind="nats-wiped", target="nats").inject(stack)
    await stored(stack)
    assert text not in await in_store(stack)


async def test_a_store_that_is_rolled_back_has_what_was_taken_and_lacks_what_came(
    stack: ChaosStack,
) -> None:
    taken = await stored(stack)
    fault = RolledBack(kind="nats-rolled-back", target="nats", seconds=QUICK_SECONDS)
    nats_pid = stack.local.supervisor.pid("nats")
    injecting = asyncio.create_task(fault.inject(stack))
    kept = stack.data_dir / "nats-kept" / "jetstream"
    await eventually(kept.exists, 60, "the store was copied")
    await stack.nats.jetstream.purge_stream(INBOX_STREAM, subject=SUBJECT)
    came = await stored(stack)
    assert await in_store(stack) == {came}
    assert stack.local.supervisor.pid("nats") == nats_pid, "it is not rolled back yet"
    await injecting
    await stored(stack)
    assert (await in_store(stack)) & {taken, came} == {taken}


async def test_a_full_store_refuses_and_keeps_what_it_has(stack: ChaosStack) -> None:
    text = await stored(stack)
    full = StoreFull(kind="nats-store-full", target="nats", seconds=QUICK_SECONDS)
    injecting = await begun(full, stack)

    async def refused() -> bool:
        try:
            await stack.nats.jetstream.publish(SUBJECT, b"no room")
        except ServiceUnavailableError as error:
            return error.err_code == 10077
        except NATS_FAULTS:
            pass  # no answer in time
        return False

    await eventually(refused, what="refused")
    await injecting
    await stored(stack)
    assert text in await in_store(stack)


@pytest.mark.skipif(sys.platform != "linux", reason="by a limit that only Linux has")
async def test_a_full_disk_leaves_publishers_without_an_answer(stack: ChaosStack) -> None:
    text = await stored(stack)
    full = DiskFull(kind="nats-disk-full", target="nats", seconds=QUICK_SECONDS)
    injecting = await begun(full, stack)
    with pytest.raises(NATS_FAULTS):
        await stack.nats.jetstream.publish(SUBJECT, b"no room", timeout=0.5)
    await injecting
    await stored(stack)
    assert text in await in_store(stack)


async def test_a_clock_that_jumps_shows_in_the_log(
    stack: ChaosStack, client: OutreachClient
) -> None:
    jump = ClockJump(
        kind="clock-jump-campaign", target="campaign-1", hours=26.0, seconds=QUICK_SECONDS
    )
    injecting = await begun(jump, stack)
    tomorrow = datetime.now(UTC) + timedelta(hours=25)
    log = stack.local.supervisor.log_path("campaign-1")

    async def told_from_tomorrow() -> bool:
        # gRPC's core has another clock than Python then, and finds a call's time over; its line is there all the same.
        with suppress(CallError):
            await client.get_disclaimer()
        whole, _, _ = log.read_text().rpartition("\n")
        lines = (orjson.loads(line) for line in whole.splitlines() if line[:1] == "{")
        return any(datetime.fromisoformat(line["timestamp"]) > tomorrow for line in lines)

    await eventually(told_from_tomorrow, what="a line of tomorrow")
    await injecting


async def test_a_provider_s_outage_ends(stack: ChaosStack, sandbox: SandboxClient) -> None:
    outage = Outage(kind="provider-503", target="sandbox", status=503, seconds=QUICK_SECONDS)
    injecting = asyncio.create_task(outage.inject(stack))

    async def status() -> tuple[int, int]:
        knobs = await sandbox.knobs()
        return knobs["unavailable_status"], knobs["email"]["unavailable_status"]

    async def is_out() -> bool:
        return await status() == (503, 503)

    await eventually(is_out)
    await injecting
    assert await status() == (0, 0)
