"""Injects a scenario's faults, and starts processes anew that were killed."""

import asyncio
from collections.abc import Awaitable, Callable

from simulation.campaign_process import CampaignProcess
from simulation.campaign_side import CampaignSide
from simulation.jetstream import Server
from simulation.rpc import Network
from simulation.scenario import FaultPlan
from simulation.sender_process import SenderProcess
from simulation.world import Process, World

#: Streams are cut again and again, as each is most vulnerable while it begins.
CUTS = 5
#: What is asked within this is slow, and what comes after is not.
SLOW_SECONDS = 0.006
#: A point that nobody comes to is not waited for any longer.
POINT_SECONDS_MAX = 5.0


class Cluster:
    """The processes that are up, by their place; a place is empty while its process is being restarted."""

    def __init__(
        self,
        start_replica: Callable[[str], CampaignProcess],
        start_sender: Callable[[str], SenderProcess],
    ) -> None:
        self._start_replica = start_replica
        self._start_sender = start_sender
        self._starts = 0
        self.replicas: dict[int, CampaignProcess] = {}
        self.senders: dict[int, SenderProcess] = {}

    def start_replica(self, place: int) -> None:
        """Another process at this place."""
        self._starts += 1
        replica = self.replicas[place] = self._start_replica(f"campaign-{self._starts}")
        replica.begin()

    def start_sender(self, place: int) -> None:
        """Another process at this place."""
        self._starts += 1
        sender = self.senders[place] = self._start_sender(f"sender-{self._starts}")
        sender.begin()


class Faults:
    """Runs the plans, each in its time."""

    def __init__(
        self, world: World, cluster: Cluster, network: Network, nats: Server, side: CampaignSide
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._network = network
        self._nats = nats
        self._side = side
        self._draw = world.random("faults")
        self._kinds: dict[str, Callable[[FaultPlan], Awaitable[None]]] = {
            "kill-at": self._kill_at,
            "cut-at": self._cut_at,
            "kill-sender": self._kill_sender,
            "kill-all-senders": self._kill_all_senders,
            "kill-campaign": self._kill_campaign,
            "cut-streams": self._cut_streams,
            "jobs-redelivered": self._redeliver,
            "nats-wiped": self._wipe,
            "nats-down": self._nats_down,
            "store-down": self._store_down,
            "commits-unanswered": self._commits_unanswered,
            "drain-sender": self._drain_sender,
            "drain-campaign": self._drain_campaign,
        }

    async def inject(self, plan: FaultPlan) -> None:
        """At its time; returns when it is over."""
        await asyncio.sleep(plan.at_seconds)
        if not self._world.is_faulty:
            return  # there is nothing left to disturb
        self._world.history.tell("FAULT", f"{plan.kind} for {plan.hold_seconds:.2f} s")
        await self._kinds[plan.kind](plan)
        self._world.history.tell("FAULT", f"{plan.kind} is over")

    async def _at_point(self, plan: FaultPlan) -> Process | None:
        """The process that gets to the plan's point; None: none does in time."""
        try:
            async with asyncio.timeout(POINT_SECONDS_MAX):
                process = await self._world.next_reached(plan.point)
        except TimeoutError:
            return None
        self._world.history.tell("FAULT", f"{process.name} is at: {plan.point}")
        return process if process.alive and self._world.is_faulty else None

    async def _kill_at(self, plan: FaultPlan) -> None:
        reached = await self._at_point(plan)
        for place, sender in [*self._cluster.senders.items()]:
            if sender is reached:
                await self._kill_one(place, plan.hold_seconds / 2)
        for place, replica in [*self._cluster.replicas.items()]:
            if replica is reached:
                await self._kill_replica(place, plan.hold_seconds / 2)

    async def _cut_at(self, plan: FaultPlan) -> None:
        """And what was asked just now takes seconds, while its asker may already have begun anew."""
        reached = await self._at_point(plan)
        if reached is not None:
            self._network.cut_streams(reached)
            self._side.set_fault(slow=1.0)
            await asyncio.sleep(SLOW_SECONDS)
            self._side.set_fault()

    async def _kill_sender(self, plan: FaultPlan) -> None:
        if self._cluster.senders:
            place = self._draw.choice(sorted(self._cluster.senders))
            await self._kill_one(place, plan.hold_seconds)

    async def _kill_one(self, place: int, down_seconds: float) -> None:
        sender = self._cluster.senders.pop(place)
        await sender.crash()
        await asyncio.sleep(down_seconds)
        self._cluster.start_sender(place)

    async def _kill_all_senders(self, plan: FaultPlan) -> None:
        async with asyncio.TaskGroup() as tasks:
            for place in sorted(self._cluster.senders):
                tasks.create_task(self._kill_one(place, plan.hold_seconds))

    async def _drain_sender(self, plan: FaultPlan) -> None:
        if self._cluster.senders:
            place = self._draw.choice(sorted(self._cluster.senders))
            sender = self._cluster.senders.pop(place)
            await sender.drain()
            await asyncio.sleep(plan.hold_seconds / 4)
            self._cluster.start_sender(place)

    async def _kill_campaign(self, plan: FaultPlan) -> None:
        if self._cluster.replicas:
            place = self._draw.choice(sorted(self._cluster.replicas))
            await self._kill_replica(place, plan.hold_seconds)

    async def _kill_replica(self, place: int, down_seconds: float) -> None:
        replica = self._cluster.replicas.pop(place)
        await replica.crash()
        await asyncio.sleep(down_seconds)
        self._cluster.start_replica(place)

    async def _drain_campaign(self, plan: FaultPlan) -> None:
        if self._cluster.replicas:
            place = self._draw.choice(sorted(self._cluster.replicas))
            replica = self._cluster.replicas.pop(place)
            await replica.drain()
            await asyncio.sleep(plan.hold_seconds / 4)
            self._cluster.start_replica(place)

    async def _cut_streams(self, plan: FaultPlan) -> None:
        for _ in range(CUTS):
            self._network.cut_streams()
            await asyncio.sleep(self._draw.uniform(0, 2 * plan.hold_seconds / CUTS))

    async def _redeliver(self, _: FaultPlan) -> None:
        self._nats.redeliver_all()

    async def _wipe(self, _: FaultPlan) -> None:
        self._nats.wipe()

    async def _nats_down(self, plan: FaultPlan) -> None:
        self._nats.go_down()
        await asyncio.sleep(plan.hold_seconds)
        self._nats.up.set()

    async def _store_down(self, plan: FaultPlan) -> None:
        self._side.set_fault(is_up=False)
        await asyncio.sleep(plan.hold_seconds)
        self._side.set_fault()

    async def _commits_unanswered(self, plan: FaultPlan) -> None:
        self._side.set_fault(commits_unanswered=0.3)
        await asyncio.sleep(plan.hold_seconds)
        self._side.set_fault()
