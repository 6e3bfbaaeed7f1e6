"""What clients do: run, stop, retry, opt out, and ask again when no answer comes.

The rules are the product's (`allowed_actions`, its statements); only the calls' outer layers are left out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2
from outreach.postgres.outage import STORE_ERRORS
from outreach.vocabulary import CampaignAction
from services.campaign.delivery.changes import lock_campaign
from services.campaign.delivery.opt_outs import store_opt_outs
from services.campaign.domain.failures import POINTLESS
from services.campaign.domain.lifecycle import allowed_actions
from services.campaign.store.campaigns import begin_run, log_change
from services.campaign.store.retries import RetryFilter, pick_retryable, queue_again, stop_run
from simulation.campaign_process import CampaignProcess
from simulation.campaign_side import CampaignSide
from simulation.clock import START_EPOCH_SECONDS, START_SECONDS
from simulation.scenario import ORGANISATION_ID, RECIPIENT_KEY, CampaignPlan, Scenario
from simulation.world import World

ASK_AGAIN_SECONDS = 0.3
#: A run that has not ended by then never will.
RUN_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """A stop that was answered at `time`, of this run."""

    campaign_id: UUID
    run: int
    time: float


@dataclass(frozen=True, slots=True)
class OptedOut:
    """A recipient who had opted out by `time`."""

    recipient: str
    time: float


@dataclass(slots=True)
class Done:
    """What clients were answered."""

    stops: list[Stopped] = field(default_factory=list)
    opt_outs: list[OptedOut] = field(default_factory=list)


class Unanswered(Exception):
    """No replica could be asked, or it gave no answer: it may be done or not."""


class Clients:
    """Those of one run of the simulation."""

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        side: CampaignSide,
        replicas: Callable[[], list[CampaignProcess]],
    ) -> None:
        self._world = world
        self._scenario = scenario
        self._side = side
        self._replicas = replicas
        self._draw = world.random("clients")
        self.done = Done()

    async def run_campaign(self, plan: CampaignPlan) -> None:
        """Run it, do meanwhile what the plan says, and retry it after its end."""
        run = await self._until_answered(plan, self._begin_run)
        async with asyncio.TaskGroup() as tasks:
            if plan.stop_seconds is not None:
                tasks.create_task(self._stop_later(plan, plan.stop_seconds, run))
            for number, seconds in plan.opt_outs:
                tasks.create_task(self._opt_out_later(plan, number, seconds))
            tasks.create_task(self._until_ended(plan))
        for is_forced in plan.retries:
            if await self._until_answered(
                plan,
                lambda on, plan: self._retry(on, plan, is_forced=is_forced),  # noqa: B023
            ):
                await self._until_ended(plan)

    async def _stop_later(self, plan: CampaignPlan, seconds: float, run: int) -> None:
        await asyncio.sleep(seconds)
        if await self._until_answered(plan, self._stop):
            self.done.stops.append(Stopped(plan.campaign_id, run, self._world.now()))
            self._tell(plan, "stopped")

    async def _opt_out_later(self, plan: CampaignPlan, number: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._until_answered(plan, lambda on, plan: self._opt_out(on, plan, number))
        self.done.opt_outs.append(OptedOut(plan.recipient(number), self._world.now()))
        self._tell(plan, f"recipient of {number} opted out")

    async def _until_ended(self, plan: CampaignPlan) -> None:
        deadline = self._world.now() + RUN_SECONDS_MAX
        while not (await self._side.stored(plan)).ended:
            if self._world.now() > deadline:
                raise TimeoutError("the campaign does not end")
            await asyncio.sleep(0.25)
        self._tell(plan, "ended")

    async def _until_answered(
        self, plan: CampaignPlan, ask: Callable[[CampaignProcess, CampaignPlan], Awaitable[int]]
    ) -> int:
        while True:
            try:
                return await self._ask(plan, ask)
            except (Unanswered, asyncpg.UniqueViolationError):
                await asyncio.sleep(ASK_AGAIN_SECONDS * self._draw.uniform(0.5, 1))

    async def _ask(
        self, plan: CampaignPlan, ask: Callable[[CampaignProcess, CampaignPlan], Awaitable[int]]
    ) -> int:
        living = [replica for replica in self._replicas() if replica.alive]
        if not living:
            raise Unanswered
        replica = self._draw.choice(living)
        call = replica.start(_answer(ask(replica, plan)), "call")
        try:
            result = await call
        except asyncio.CancelledError:
            if replica.alive:
                raise
            raise Unanswered from None
        if isinstance(result, asyncpg.UniqueViolationError):
            raise result  # another campaign holds the channel
        if isinstance(result, Exception):
            raise Unanswered
        return int(result)

    async def _begin_run(self, on: CampaignProcess, plan: CampaignPlan) -> int:
        """The run; 1 as well when an earlier call had begun it and was not answered."""
        async with on.pool.acquire() as connection, connection.transaction():
            campaign = await _locked(connection, plan)
            if campaign.run:
                return 1
            run = await begin_run(connection, plan.campaign_id, segments_mean=1.0)
            await log_change(connection, plan.campaign_id)
        on.dispatcher.wake()
        self._tell(plan, f"run {run}")
        return run

    async def _stop(self, on: CampaignProcess, plan: CampaignPlan) -> int:
        """1: it is stopped. 0: it had ended."""
        async with on.pool.acquire() as connection, connection.transaction():
            campaign = await _locked(connection, plan)
            if campaign.stopped:
                return 1
            actions = allowed_actions(campaign.status, campaign.counts, stopped=False)
            if CampaignAction.STOP not in actions:
                return 0
            await stop_run(connection, plan.campaign_id)
            await log_change(connection, plan.campaign_id)
        on.sweepers.wake()
        await on.stops.run_stopped(campaign.channel, plan.campaign_id, campaign.run)
        return 1

    async def _retry(self, on: CampaignProcess, plan: CampaignPlan, *, is_forced: bool) -> int:
        """1: a run has begun, perhaps by a call that was not answered. 0: there is nothing to retry."""
        where = RetryFilter(
            statuses=self._scenario.retried_statuses,
            failure_reasons=(),
            pointless=frozenset() if is_forced else POINTLESS,
        )
        async with on.pool.acquire() as connection, connection.transaction():
            campaign = await _locked(connection, plan)
            if not campaign.ended:
                return 1
            actions = allowed_actions(campaign.status, campaign.counts, stopped=campaign.stopped)
            if CampaignAction.RETRY not in actions:
                return 0
            picked = [
                n async for p in pick_retryable(connection, plan.campaign_id, where) for n in p
            ]
            if not picked:
                return 0
            await begin_run(connection, plan.campaign_id, segments_mean=1.0)
            await log_change(connection, plan.campaign_id)
            await queue_again(connection, plan.campaign_id, picked)
        on.dispatcher.wake()
        self._tell(plan, f"retries {len(picked)}")
        return 1

    async def _opt_out(self, on: CampaignProcess, plan: CampaignPlan, number: int) -> int:
        time = Timestamp()
        time.FromMicroseconds(
            round((self._world.now() + START_EPOCH_SECONDS - START_SECONDS) * 1_000_000)
        )
        opt_out = delivery_pb2.OptOut(
            organisation_id=str(ORGANISATION_ID),
            channel=int(self._scenario.channel),  # type: ignore[arg-type]  # same numbers
            recipient=plan.recipient(number),
            action=delivery_pb2.OPT_OUT_ACTION_ADD,
            time=time,
            source="reply",
        )
        async with on.pool.acquire() as connection:
            await store_opt_outs(connection, [opt_out], recipient_key=RECIPIENT_KEY)
        return 1

    def _tell(self, plan: CampaignPlan, text: str) -> None:
        self._world.history.tell("client", f"{plan.campaign_id.int % 1000}: {text}")


async def _answer(asked: Awaitable[int]) -> "int | Exception":
    """What the replica answers, or why it does not."""
    try:
        return await asked
    except (*STORE_ERRORS,) as error:
        return error


async def _locked(connection: Any, plan: CampaignPlan) -> Any:
    campaign = await lock_campaign(connection, plan.campaign_id)
    assert campaign is not None
    return campaign
