"""Processes killed in the middle of a run: it ends by itself as if nothing had happened.

The history of each run is checked whole: every message's end by its fate, every attempt and every
recipient at most once in the provider's ledger, none missing.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count

import pytest
import pytest_asyncio

from outreach.local.stack import LocalStack, StackOptions
from outreach.local.supervisor import EventKind
from services.sandbox.knobs import Knobs
from tests.campaign_history import SEED, SHORT_TIMERS, History, recipients
from tests.kills import PATIENT, RESTART_SECONDS_MAX, kill
from tests.waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

MESSAGES = 2_000

# Slow enough to be hit in the middle, and nothing left to chance: no transport faults, so no
# doubt but what the kills make.
KNOBS = Knobs(
    latency_ms=300,
    latency_jitter_ms=100,
    failed_codes={30003: 0.03, 30005: 0.02, 30036: 0.01},
    no_receipt_share=0.02,
    callback_delay_ms_min=50,
    callback_delay_ms_max=900,
    callback_duplicated_share=0.02,
    callback_reordered_share=0.05,
    callback_early_share=0.02,
    callback_retry_seconds=8,
)
WITH_REFUSALS = KNOBS.model_copy(update={"rejected_codes": {21610: 0.03, 21408: 0.03}})
# Some requests get no answer that says anything, and of some of those nobody ever says anything.
IN_DOUBT = KNOBS.model_copy(
    update={
        "http_500_before_accept_share": 0.03,
        "http_500_after_accept_share": 0.02,
        "drop_after_accept_share": 0.02,
        "no_receipt_share": 0.0,
    }
)
# Nothing is called back before the middle of the run.
LATE_CALLBACKS = KNOBS.model_copy(
    update={
        "callback_statuses": (),
        "callback_early_share": 0.0,
        "callback_delay_ms_min": 16_000.0,
        "callback_delay_ms_max": 17_000.0,
    }
)

#: Of a killed sender: a request whose beginning was written down and that had not left yet.
BEGUN_AT_A_KILL_MAX = 1
#: Of a killed sender or provider: every request that had no answer yet.
REQUESTS_OPEN_MAX = 100


MiddleOf = Callable[[Knobs], Awaitable[History]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[LocalStack]:
    with pytest.MonkeyPatch.context() as environment:
        # Servers of our own, whatever others the session has: these will be killed.
        environment.delenv("OUTREACH_POSTGRES_DSN", raising=False)
        environment.delenv("OUTREACH_NATS_URL", raising=False)
        # Durable: without it PostgreSQL loses commits in a kill, as it is told it may.
        async with LocalStack(StackOptions(settings=SHORT_TIMERS, seed=SEED)) as started:
            yield started


@pytest.fixture(scope="module")
def area_codes() -> Iterator[int]:
    return count(301)


@pytest_asyncio.fixture(loop_scope="module")
async def middle_of(stack: LocalStack, area_codes: Iterator[int]) -> AsyncIterator[MiddleOf]:
    """Starts a campaign with the given knobs and returns in the middle of its run."""
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        client.timeouts = PATIENT

        async def start(knobs: Knobs) -> History:
            history = History(client, sandbox, knobs, recipients(next(area_codes), MESSAGES))
            await history.prepare()
            await history.run()
            await history.in_the_middle()
            return history

        yield start


def died_of(stack: LocalStack, name: str) -> int | None:
    """The return code of the process's last end (negative: minus the signal)."""
    ends = [e for e in stack.supervisor.events if e.name == name and e.kind is EventKind.DIED]
    return ends[-1].returncode


async def test_the_sender_is_killed(stack: LocalStack, middle_of: MiddleOf) -> None:
    history = await middle_of(KNOBS)
    history.in_doubt_max = BEGUN_AT_A_KILL_MAX
    await kill(stack, "sender-sms-1")
    await history.end()


async def test_the_sender_is_killed_twice_while_it_is_refused(
    stack: LocalStack, middle_of: MiddleOf
) -> None:
    history = await middle_of(WITH_REFUSALS)
    history.in_doubt_max = 2 * BEGUN_AT_A_KILL_MAX
    history.refusals_lost_max = 2 * REQUESTS_OPEN_MAX
    await kill(stack, "sender-sms-1")
    await history.in_the_middle(2 / 3)
    await kill(stack, "sender-sms-1")
    await history.end()


@pytest.mark.parametrize("name", ["campaign-1", "nats", "postgres"])
async def test_another_process_is_killed(stack: LocalStack, middle_of: MiddleOf, name: str) -> None:
    history = await middle_of(WITH_REFUSALS)
    await kill(stack, name)
    await history.end()


@pytest.mark.parametrize("name", ["sender-sms-1", "campaign-1"])
async def test_a_kill_makes_nobody_send_again_what_is_in_doubt(
    stack: LocalStack, middle_of: MiddleOf, name: str
) -> None:
    """The instance ends in which attempts were reported as unknown; they stay unknown."""
    history = await middle_of(IN_DOUBT)
    history.in_doubt_max = BEGUN_AT_A_KILL_MAX
    await kill(stack, name)
    await history.end()


async def test_all_but_the_provider_are_killed_at_once(
    stack: LocalStack, middle_of: MiddleOf
) -> None:
    history = await middle_of(KNOBS)
    history.in_doubt_max = BEGUN_AT_A_KILL_MAX
    async with asyncio.TaskGroup() as tasks:
        for name in stack.process_names:
            if name != "sandbox":
                tasks.create_task(kill(stack, name))
    await history.end()


async def test_the_provider_is_killed(stack: LocalStack, middle_of: MiddleOf) -> None:
    history = await middle_of(WITH_REFUSALS)
    history.in_doubt_max = history.refusals_lost_max = REQUESTS_OPEN_MAX
    await kill(stack, "sandbox")
    await history.end()


async def test_the_store_of_nats_is_wiped(stack: LocalStack, middle_of: MiddleOf) -> None:
    # What is in the inbox and nowhere else would be lost with it, and assumed delivered.
    history = await middle_of(LATE_CALLBACKS)
    pid = stack.supervisor.kill("nats", down_seconds=10.0)
    await eventually(lambda: stack.supervisor.pid("nats") != pid, what="nats is down")
    assert (await history.sandbox.ledger())["callbacks"] == {}
    await asyncio.to_thread(shutil.rmtree, stack.nats.store_dir)
    await stack.supervisor.wait_restarted("nats", pid, RESTART_SECONDS_MAX)
    await history.end()


@pytest.mark.parametrize("name", ["sender-sms-1", "campaign-1"])
async def test_a_process_is_asked_to_stop(
    stack: LocalStack, middle_of: MiddleOf, name: str
) -> None:
    history = await middle_of(WITH_REFUSALS)
    await kill(stack, name, signal.SIGTERM)
    assert died_of(stack, name) == 0
    await history.end()
