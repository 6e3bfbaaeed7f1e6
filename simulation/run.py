"""One seed, from its scenario to its violations."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from outreach.internal.v1 import delivery_pb2
from simulation.campaign_process import CampaignProcess, paced
from simulation.campaign_side import CampaignSide, ModelSide
from simulation.checks import Evidence, check
from simulation.clients import Clients
from simulation.clock import START_SECONDS, Stuck, VirtualLoop, virtual_time
from simulation.faults import Cluster, Faults
from simulation.jetstream import Server
from simulation.provider import RemoteProvider
from simulation.rpc import Network
from simulation.scenario import FAULTY_SECONDS, Scenario, draw_scenario
from simulation.sender_process import SenderProcess
from simulation.watchers import Watcher
from simulation.world import ProcessKilled, World

#: After the last receipt: what was handed to a process that died comes again, and watchers catch up.
QUIET_SECONDS = 8.0
#: Journals are small and many; memory is the best place for them.
_MEMORY = Path("/dev/shm")

#: What the product logs when it meets what can't be.
_FAULTS_OF_OURS = frozenset(
    {
        "background_task_ended",
        "inbox_entry_malformed",
        "job_failed",
        "job_malformed",
        "provider_adapter_failed",
        "reports_set_aside",
        "stop_malformed",
        "watch_look_failed",
    }
)

SideOf = Callable[[World], CampaignSide]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a seed. `history` is empty unless it was asked for."""

    seed: int
    violations: tuple[str, ...]
    history: tuple[str, ...]
    sent: int
    virtual_seconds: float


def simulate(
    seed: int,
    *,
    keeps_history: bool = False,
    side_of: SideOf = ModelSide,
    has_real_io: bool = False,
    journals_in: Path | None = None,
) -> Result:
    """Run a seed. The same seed gives the same result, in memory at least. `journals_in`: a directory for them."""
    scenario = draw_scenario(seed)
    loop = VirtualLoop(has_real_io=has_real_io)
    world = World(loop, seed, keeps_history=keeps_history)
    with ExitStack() as around:
        around.callback(loop.close)
        around.enter_context(paced(scenario.dispatch_tick_seconds))
        around.enter_context(virtual_time(loop, seed))
        around.enter_context(_logs_to(world))
        journals = around.enter_context(journals_directory(journals_in))
        asyncio.set_event_loop(loop)
        around.callback(asyncio.set_event_loop, None)
        run = _Run(world, scenario, side_of(world), journals)
        try:
            violations, sent = loop.run_until_complete(run.to_end())
        except Stuck as stuck:
            violations, sent = [f"hangs: {stuck}"], 0
    return Result(
        seed,
        tuple(violations),
        tuple(world.history.lines),
        sent,
        loop.time() - START_SECONDS,
    )


@contextmanager
def journals_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory for journals while the context lasts; in memory unless a parent is given."""
    if parent is None and _MEMORY.is_dir():
        parent = _MEMORY
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=parent) as directory:
        yield Path(directory)


@contextmanager
def _logs_to(world: World) -> Iterator[None]:
    """The product's log lines become part of the history."""
    known = structlog.get_config()

    def tell(_: Any, method: str, event: Any) -> Any:
        if event["event"] in _FAULTS_OF_OURS and event.get("error") != ProcessKilled.__name__:
            world.fail(f"{event['event']}: {event.get('error', '')}")
        if world.history.is_kept:
            fields = " ".join(
                f"{key}={value}"
                for key, value in event.items()
                if key not in ("event", "exc_info", "instance_id", "instances")
            )
            world.history.tell("log", f"{method} {event['event']} {fields}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[tell],
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**known)


class _Run:
    def __init__(
        self, world: World, scenario: Scenario, side: CampaignSide, journals: Path
    ) -> None:
        self._world = world
        self._scenario = scenario
        self._side = side
        self._network = Network(world, delivery_pb2.DeliverRequest)
        self._nats = Server(world)
        self._remote = RemoteProvider(world, scenario)
        self._cluster = Cluster(
            lambda name: CampaignProcess(world, name, scenario, side, self._network, self._nats),
            lambda name: SenderProcess(
                world, name, scenario, self._network, self._nats, self._remote, journals
            ),
        )
        self._faults = Faults(world, self._cluster, self._network, self._nats, side)
        self._clients = Clients(world, scenario, side, lambda: [*self._cluster.replicas.values()])
        self._watchers = [
            Watcher(world, f"watcher-{number}-{plan.campaign_id.int % 1000}", self._network, plan)
            for plan in scenario.campaigns
            for number in range(1, scenario.watchers + 1)
        ]

    async def to_end(self) -> tuple[list[str], int]:
        """Violations, and how many messages the provider took."""
        for plan in self._scenario.campaigns:
            await self._side.create(plan, self._scenario.channel)
        async with self._processes():
            try:
                await self._play()
            except* TimeoutError as group:
                self._world.fail(f"hangs: {group.exceptions[0]}")
            await self._until_quiet()
        try:
            return await self._judged()
        finally:
            await self._side.close()

    async def _judged(self) -> tuple[list[str], int]:
        stored = [await self._side.stored(plan) for plan in self._scenario.campaigns]
        evidence = Evidence(
            scenario=self._scenario,
            stored=dict(zip(self._scenario.campaigns, stored, strict=True)),
            begun=self._remote.begun,
            accepted=self._remote.accepted,
            done=self._clients.done,
            watched=[(watcher.watched, watcher.position) for watcher in self._watchers],
            receipts_lost=self._nats.was_wiped,
        )
        violations = [*self._world.failures, *check(evidence)]
        return violations, len(self._remote.accepted)

    @asynccontextmanager
    async def _processes(self) -> AsyncIterator[None]:
        for place in range(self._scenario.replicas):
            self._cluster.start_replica(place)
        for place in range(self._scenario.senders):
            self._cluster.start_sender(place)
        for watcher in self._watchers:
            watcher.start(watcher.watch(), "watch")
        yield
        for process in (
            *self._watchers,
            *self._cluster.senders.values(),
            *self._cluster.replicas.values(),
        ):
            await process.kill()

    async def _play(self) -> None:
        faults = [
            asyncio.create_task(self._faults.inject(fault)) for fault in self._scenario.faults
        ]
        self._world.loop.call_later(FAULTY_SECONDS, self._end_faults)
        async with asyncio.TaskGroup() as tasks:
            for plan in self._scenario.campaigns:
                tasks.create_task(self._clients.run_campaign(plan))
        self._end_faults()
        await asyncio.gather(*faults)

    def _end_faults(self) -> None:
        self._world.is_faulty = False

    async def _until_quiet(self) -> None:
        """Until late receipts are stored, forwarded and committed, and watchers have caught up."""
        await self._remote.all_told.wait()
        await asyncio.sleep(QUIET_SECONDS)
