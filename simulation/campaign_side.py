"""What the campaign service stands on, in memory or in PostgreSQL: the one thing that `--postgres` exchanges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from outreach.vocabulary import Channel, MessageStatus
from services.campaign.domain.lifecycle import Counts
from simulation.model.registry import known_statements
from simulation.model.tables import Campaign, Commit, Contact, Message
from simulation.model.transactions import Database, Pool
from simulation.scenario import ORGANISATION_ID, CampaignPlan
from simulation.world import Process, World


@dataclass(frozen=True, slots=True)
class Stored:
    """A campaign as it is committed. `attempts`: those that a retry has followed, by number and attempt."""

    status: int
    counts: Counts
    ended: bool
    messages: Mapping[int, Message]
    attempts: Mapping[tuple[int, int], Message]
    log: Sequence[Commit]


class CampaignSide(Protocol):
    """The store of the campaign service."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def pool(self, process: Process) -> Any:
        """What the product takes for an `asyncpg.Pool`, good while the process lives."""
        ...

    def set_fault(
        self, *, is_up: bool = True, commits_unanswered: float = 0.0, slow: float = 0.0
    ) -> None:
        """Down, or up and with so many commits whose answer is lost, so many statements that take seconds."""
        ...

    async def create(self, plan: CampaignPlan, channel: Channel) -> None:
        """A campaign that is READY."""
        ...

    async def stored(self, plan: CampaignPlan) -> Stored:
        """What is committed now."""
        ...

    async def close(self) -> None:
        """At the end of a seed."""
        ...


class ModelSide:
    """In memory."""

    name = "in memory"

    def __init__(self, world: World) -> None:
        self._database = Database(world, known_statements())

    def pool(self, process: Process) -> Any:
        return Pool(self._database, process)

    def set_fault(
        self, *, is_up: bool = True, commits_unanswered: float = 0.0, slow: float = 0.0
    ) -> None:
        self._database.is_up = is_up
        self._database.commits_unanswered = commits_unanswered
        self._database.slow = slow

    async def create(self, plan: CampaignPlan, channel: Channel) -> None:
        numbers = range(1, plan.messages + 1)
        self._database.tables.campaigns[plan.campaign_id] = Campaign(
            plan.campaign_id,
            ORGANISATION_ID,
            channel,
            contacts={
                number: Contact(plan.recipient(number), plan.recipient_hash(number, channel))
                for number in numbers
            },
            messages={number: Message(number, MessageStatus.QUEUED) for number in numbers},
            counts=Counts(waiting=plan.messages),
        )

    async def stored(self, plan: CampaignPlan) -> Stored:
        campaign = self._database.tables.campaigns[plan.campaign_id]
        return Stored(
            campaign.status,
            campaign.counts,
            campaign.end_time is not None,
            campaign.messages,
            campaign.attempts,
            campaign.log,
        )

    async def close(self) -> None:
        return
