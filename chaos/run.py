"""One run: a stack, two campaigns, clients, faults; to the end, recorded and checked."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.bounds import bounds_of
from chaos.checker import Violation, check
from chaos.clients.campaigns import CampaignOwner, recipients
from chaos.clients.crowd import Crowd
from chaos.faults import Fault
from chaos.faults.links import LinkFault
from chaos.hang import describe_hang
from chaos.history import Bounds, FaultDone, History
from chaos.history_file import write_history
from chaos.plan import CRASH, MESSAGES, Moment, Plan, make_plan
from chaos.record.database import read_database
from chaos.record.exports import export_once
from chaos.record.lag import Lag
from chaos.record.ledger import read_ledger
from chaos.record.recorder import Recorder
from chaos.record.settling import until_settled
from chaos.stack import ChaosOptions, ChaosStack
from outreach.local.embedded import temporary_data_dir

#: A guard against a hang, beyond what the faults take.
END_SECONDS_MAX = 600.0
#: After the end: the last callbacks, watchers, the inbox.
SETTLE_SECONDS_MAX = 300.0
SMALL_MESSAGES = 20
#: Said of a fault that was armed in the code where nobody came by in time.
NOT_REACHED = "not reached"
#: A process sees within a part of it where it is to die.
ARMED_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run that is over. `seconds`: its campaigns', without the stack's start."""

    seed: int
    plan: Plan
    history: History
    violations: list[Violation]
    seconds: float


async def run(
    seed: int,
    *,
    messages: int = MESSAGES,
    kinds: Sequence[str] = (),
    long: bool = False,
    keep_dir: Path | None = None,
    break_name: str = "",
) -> RunResult:
    """Run a seed's plan and check its history.

    Args:
        seed: of the plan, and of the provider's fates.
        messages: of each of the two campaigns.
        kinds: only these kinds of faults.
        long: faults in their long forms.
        keep_dir: where history, plan and the processes' logs go when a promise was broken.
        break_name: a deliberate break of the product (`chaos.breaks`), in every service.

    Raises:
        StartFailed: the stack did not start.
    """
    plan = make_plan(seed, messages=messages, kinds=kinds, long=long)
    data_dir = temporary_data_dir()
    try:
        async with ChaosStack(_options(plan, data_dir, break_name)) as stack:
            playing = _Run(stack, plan)
            begun = time.monotonic()
            violations = await playing.play()
            seconds = time.monotonic() - begun
        result = RunResult(
            seed=seed, plan=plan, history=playing.history, violations=violations, seconds=seconds
        )
        violations += check(playing.history)
        if violations and keep_dir is not None:
            await asyncio.to_thread(_keep, result, data_dir / "log", keep_dir)
        return result
    finally:
        await asyncio.to_thread(shutil.rmtree, data_dir, ignore_errors=True)


class _Run:
    """A run that is being played."""

    def __init__(self, stack: ChaosStack, plan: Plan) -> None:
        self._stack = stack
        self._plan = plan
        self._moments = {moment: asyncio.Event() for moment in Moment}
        self._injected: list[tuple[Fault, FaultDone]] = []
        self._lag = Lag()
        self._limit = asyncio.timeout(None)
        self.history = History(
            seed=plan.seed, bounds=Bounds(send_window_seconds=plan.send_window_seconds)
        )

    async def play(self) -> list[Violation]:
        """To the end; a violation of I1 when there is none."""
        hung = []
        async with (
            self._crowd() as crowd,
            self._recorder() as recorder,
            self._lag.measured(crowd.sandbox),
        ):
            try:
                async with asyncio.timeout(None) as self._limit:
                    self._has_time()
                    await self._play(crowd, recorder)
                async with asyncio.timeout(SETTLE_SECONDS_MAX):
                    await self._settle(crowd, recorder)
            except TimeoutError:
                hung.append(Violation("I1", await describe_hang(self._stack)))
        await self._read_the_end()
        return hung

    def _has_time(self) -> None:
        """From now on so long, or the run hangs. Faults take their time: it counts from the latest one's end."""
        now_seconds = asyncio.get_running_loop().time()
        self._limit.reschedule(now_seconds + END_SECONDS_MAX + 2 * self._plan.hold_seconds)

    @asynccontextmanager
    async def _recorder(self) -> AsyncIterator[Recorder]:
        async with AsyncExitStack() as cleanup:
            clients = [
                await cleanup.enter_async_context(self._stack.client(replica))
                for replica in range(self._plan.topology.campaign_replicas)
            ]
            chance = random.Random(f"{self._plan.seed}:recorder")
            yield await cleanup.enter_async_context(
                Recorder(clients, self._stack.local, self.history, chance)
            )

    @asynccontextmanager
    async def _crowd(self) -> AsyncIterator[Crowd]:
        plan, stack, history = self._plan, self._stack, self.history
        first = 0
        owners, competitors = [], []
        async with stack.client() as client, stack.local.sandbox_client() as sandbox:
            for campaign in plan.campaigns:
                to = recipients(campaign.channel, first, campaign.messages)
                owners.append(CampaignOwner(client, history, campaign.channel, to))
                first += campaign.messages
                if plan.clients.competitor:
                    to = recipients(campaign.channel, first, SMALL_MESSAGES)
                    competitors.append(CampaignOwner(client, history, campaign.channel, to))
                    first += SMALL_MESSAGES
            channel = plan.campaigns[0].channel
            to = recipients(channel, first, SMALL_MESSAGES)
            small = CampaignOwner(client, history, channel, to) if plan.clients.deleted else None
            yield Crowd(
                stack=stack,
                client=client,
                sandbox=sandbox,
                history=history,
                plan=plan.clients,
                chance=random.Random(f"{plan.seed}:clients"),
                owners=owners,
                competitors=competitors,
                small=small,
            )

    async def _play(self, crowd: Crowd, recorder: Recorder) -> None:
        async with asyncio.TaskGroup() as tasks:
            for moment in Moment:
                tasks.create_task(self._inject(moment))
            try:
                await self._prepare(crowd)
                recorder.start([owner.campaign_id for owner in crowd.owners])
                await recorder.until_begun()
                for owner in crowd.owners:
                    await owner.run()
                self._moments[Moment.RUN].set()
                await self._follow(crowd)
            finally:
                for event in self._moments.values():
                    event.set()  # what waits for something that did not come
        for owner in (*crowd.owners, *crowd.competitors):
            if owner.has_run:
                await owner.until_final()

    async def _prepare(self, crowd: Crowd) -> None:
        await self._at(Moment.IMPORT)
        async with asyncio.TaskGroup() as tasks:
            for owner in (*crowd.owners, *crowd.competitors):
                tasks.create_task(owner.prepare())
        if crowd.small is not None:
            await crowd.small.prepare()
            await crowd.small.run()
            await crowd.small.until_final()

    async def _follow(self, crowd: Crowd) -> None:
        async def before_retry() -> None:
            await self._at(Moment.RETRY)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.act())
            for owner, campaign in zip(crowd.owners, self._plan.campaigns, strict=True):
                tasks.create_task(owner.follow(campaign, before_retry))

    async def _at(self, moment: Moment) -> None:
        """What a death in the code was armed for comes next; the processes have seen it by then."""
        self._moments[moment].set()
        if any(planned.moment is moment for planned in self._plan.faults):
            await asyncio.sleep(ARMED_SECONDS)

    async def _inject(self, moment: Moment) -> None:
        """One after the other, each at its time or as soon as the one before is over."""
        await self._moments[moment].wait()
        begun = time.monotonic()
        for planned in self._plan.faults:
            if planned.moment is not moment:
                continue
            await asyncio.sleep(max(0.0, begun + planned.at_seconds - time.monotonic()))
            begun_time = time.time()
            fault, crashes = planned.fault, len(self._stack.crashes)
            await fault.inject(self._stack)
            self._has_time()
            missed = fault.kind.startswith(CRASH) and len(self._stack.crashes) == crashes
            done = FaultDone(
                kind=fault.kind,
                target=fault.target,
                begun_time=begun_time,
                ended_time=time.time(),
                details=f"{fault.details}; {NOT_REACHED}" if missed else fault.details,
            )
            self._injected.append((fault, done))
            self.history.faults.append(done)

    async def _settle(self, crowd: Crowd, recorder: Recorder) -> None:
        """Until nothing is under way any more and every watcher was told the last revision."""
        stack = self._stack.local
        await until_settled(crowd.sandbox, stack.nats_url)
        await crowd.replay(await read_ledger(crowd.sandbox, stack.token_key))
        await until_settled(crowd.sandbox, stack.nats_url)
        async with stack.client() as client:
            campaigns = [await client.get_campaign(owner.campaign_id) for owner in crowd.owners]
            await recorder.until_told({one.id: one.revision for one in campaigns})
            for owner in (*crowd.owners, *crowd.competitors):
                await export_once(client, owner.campaign_id, self.history, settled=True)

    async def _read_the_end(self) -> None:
        stack, history = self._stack.local, self.history
        async with stack.sandbox_client() as sandbox:
            history.acceptances = await read_ledger(sandbox, stack.token_key)
            totals = await sandbox.ledger(), await sandbox.email_ledger()
        await read_database(stack.postgres_dsn, history)
        history.bounds = bounds_of(self._plan, history, self._injected, *totals, self._lag)


def _options(plan: Plan, data_dir: Path, break_name: str) -> ChaosOptions:
    topology = plan.topology
    return ChaosOptions(
        campaign_replicas=topology.campaign_replicas,
        sender_replicas=topology.sender_replicas,
        email_sender_replicas=topology.email_sender_replicas,
        export_replicas=topology.export_replicas,
        seed=f"chaos-{plan.seed}",
        knobs=plan.knobs,
        settings=plan.settings,
        data_dir=data_dir,
        durable=False,  # a process that is killed leaves what it wrote to the kernel
        break_name=break_name,
        relayed=frozenset(
            planned.fault.link for planned in plan.faults if isinstance(planned.fault, LinkFault)
        ),
    )


def _keep(result: RunResult, log_dir: Path, keep_dir: Path) -> None:
    kept = keep_dir / f"seed-{result.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(log_dir, kept / "log")
    write_history(result.history, kept / "history.json.gz")
    (kept / "plan.txt").write_text(result.plan.describe() + "\n")
    said = "\n".join(f"{one.invariant} {one.campaign_id} {one.text}" for one in result.violations)
    (kept / "violations.txt").write_text(said + "\n")
