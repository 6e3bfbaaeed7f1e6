"""A sender: the product's own parts, wired as `outreach.sending.sender` does it, that can be killed.

A kill leaves the journal as it is at that moment, whatever the clean-up of the ending tasks then writes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import grpc.aio

from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import Publisher
from outreach.jetstream.topology import (
    INBOX_STREAM,
    JOBS_STREAM,
    inbox_consumer,
    inbox_subject,
    jobs_consumer,
)
from outreach.sending.adoption import Adopter
from outreach.sending.contents import Accounts, PreparedCampaigns
from outreach.sending.inbox import Forwarder, Inbox
from outreach.sending.journal import Journal, read_journal
from outreach.sending.look_ups import LookUps
from outreach.sending.reporter import Reporter
from outreach.sending.slots import Slots
from outreach.sending.stops import OverRuns, StopListener
from outreach.sending.stream import DeliveryStream
from outreach.sending.worker import Worker
from simulation.jetstream import Server, make_streams
from simulation.provider import Adapter, RemoteProvider, interpret
from simulation.rpc import Channel, Network
from simulation.scenario import Scenario
from simulation.world import Process, World

DRAIN_SECONDS_MAX = 8.0
ADOPT_SECONDS = 1.0


class SenderProcess(Process):
    """One sender, from its start to its end."""

    def __init__(
        self,
        world: World,
        name: str,
        scenario: Scenario,
        network: Network,
        nats: Server,
        remote: RemoteProvider,
        journals: Path,
    ) -> None:
        super().__init__(world, name)
        self._network = network
        self._remote = remote
        self.adapter = Adapter(remote, self)
        connection = nats.connect(self)
        channel = cast("grpc.aio.Channel", Channel(network, self))
        sends = scenario.channel
        self._journal = Journal(journals)
        self._reporter = Reporter(self._journal, sends)
        self._stream = DeliveryStream(channel, (), sends, self._journal, self._reporter)
        accounts = Accounts(channel, (), sends)
        campaigns = PreparedCampaigns(channel, (), accounts, self.adapter)
        self._slots: Slots[UUID] = Slots(
            self.adapter,
            self._journal,
            slots_max=4,
            concurrency_start=scenario.concurrency,
        )
        self._inbox = Inbox(Publisher(connection), inbox_subject(sends))

        def consumer(stream: str, durable: str | None) -> PullConsumer:
            assert durable is not None
            return PullConsumer(connection, stream=stream, durable=durable, ensure=make_streams)

        self._forwarder = Forwarder(
            consumer(INBOX_STREAM, inbox_consumer(sends).durable_name),
            self._stream,
            self._reporter,
            interpret,
        )
        self._adopter = Adopter(journals, self._reporter, interval_seconds=ADOPT_SECONDS)
        over = OverRuns()
        self._stops = StopListener(connection, sends, over)
        self._worker = Worker(
            consumer=consumer(JOBS_STREAM, jobs_consumer(sends).durable_name),
            stream=self._stream,
            reporter=self._reporter,
            slots=self._slots,
            campaigns=campaigns,
            accounts=accounts,
            look_ups=LookUps(self._stream, self._reporter, campaigns, self.adapter),
            over=over,
        )

    def begin(self) -> None:
        """Work."""
        parts: dict[str, Callable[[], Awaitable[Any]]] = {
            "stream": self._stream.run,
            "reporter": self._reporter.run,
            "slots": self._slots.run,
            "inbox": self._inbox.run,
            "forwarder": self._forwarder.run,
            "adopter": self._adopter.run,
            "stops": self._stops.run,
            "worker": self._worker.run,
        }
        for name, run in parts.items():
            self.start(self._part(name, run), name)
        self._remote.inboxes[self] = self._inbox

    async def _part(self, name: str, run: Callable[[], Awaitable[Any]]) -> None:
        try:
            await run()
        except Exception as error:
            self.world.fail(f"{self.name}: {name} failed: {error!r}")
            raise

    async def crash(self) -> None:
        """Killed with requests under way."""
        left = self._journal.path.read_bytes()
        self._check_left(left)
        path = self._journal.path
        await self._end()
        path.write_bytes(left)

    def _check_left(self, left: bytes) -> None:
        """What will be unknown is at most what was in flight, or answered and not journaled yet."""
        begun = {
            (UUID(bytes=campaign), number, attempt)
            for campaign, number, attempt in read_journal(left).begun
        }
        lingering = self._lingering()
        if not begun <= self.adapter.in_flight | lingering:
            self.world.fail(f"{self.name}: more is unknown after a kill than was in flight")

    def _lingering(self) -> set[tuple[UUID, int, int]]:
        """Outcomes that wait for others of their batch, some milliseconds."""
        outcomes = self._reporter._open.outcomes  # noqa: SLF001 - the product needs no such look
        return {
            (UUID(campaign_id), number, attempt)
            for campaign_id, known in outcomes.items()
            for number, attempt in known
        }

    async def drain(self) -> None:
        """Ended in good order, as far as that goes in its time."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await self._worker.drain()
                await self._stream.end_current()
                await self._reporter.flushed()
        except TimeoutError:
            self.world.history.tell(self.name, "drain timed out")
        if self.alive:  # else it was killed meanwhile
            await self._end()

    async def _end(self) -> None:
        self.alive = False
        self._remote.inboxes.pop(self, None)
        self._network.cut_streams(self)
        await self.kill()
        self._journal.close()
