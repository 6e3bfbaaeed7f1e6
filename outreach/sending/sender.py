"""A sender: everything wired together, and its end. What is its channel's own is passed in."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Generic

import grpc.aio
import structlog
from nats.js import JetStreamContext

from outreach.background import until_cancelled
from outreach.jetstream.connection import NatsConnection, nats_connection
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import Publisher
from outreach.jetstream.topology import (
    INBOX_STREAM,
    JOBS_STREAM,
    ensure_topology,
    inbox_consumer,
    inbox_subject,
    jobs_consumer,
)
from outreach.rpc.channel import bearer, create_channel
from outreach.sending.adoption import Adopter
from outreach.sending.contents import Accounts, PreparedCampaigns
from outreach.sending.endpoint import Faults, Handler, listening
from outreach.sending.inbox import Forwarder, Inbox, Interpret
from outreach.sending.journal import Journal
from outreach.sending.look_ups import LookUps
from outreach.sending.provider import PreparedT, Provider
from outreach.sending.reporter import Reporter
from outreach.sending.settings import SendingSettings
from outreach.sending.slots import Slots
from outreach.sending.stops import OverRuns, StopListener
from outreach.sending.stream import DeliveryStream, Metadata
from outreach.sending.worker import Worker

#: Runs until it is cancelled.
BackgroundPart = Callable[[], Coroutine[Any, Any, None]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What the parts of one channel are made with.

    `metadata` goes with every call on `channel`, the one to the campaign service.
    """

    nats: NatsConnection
    channel: grpc.aio.Channel
    metadata: Metadata
    accounts: Accounts
    inbox: Inbox
    reporter: Reporter
    stream: DeliveryStream
    faults: Faults


@dataclass(frozen=True, slots=True)
class ChannelParts:
    """What only one channel has.

    `handle` answers the endpoint's requests, `interpret` says what a stored webhook means;
    `background` runs as long as the sender, by names for the log.
    """

    handle: Handler
    interpret: Interpret
    background: Mapping[str, BackgroundPart] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wiring(Generic[PreparedT]):
    """How the sender of one channel differs from others.

    `name` is told to NATS. `concurrency_max`: requests to the provider at once. `upload_seconds_max`:
    from the start of a request to where it begins.
    """

    name: str
    provider: Provider[PreparedT]
    parts: Callable[[SharedParts], ChannelParts]
    http_host: str
    http_port: int
    concurrency_max: int
    concurrency_start: int
    upload_seconds_max: float = 0.0


class Sender(Generic[PreparedT]):
    """The sender's parts. `run` once, until `stop`."""

    def __init__(
        self,
        settings: SendingSettings,
        wiring: Wiring[PreparedT],
        nats: NatsConnection,
        channel: grpc.aio.Channel,
        journal: Journal,
    ) -> None:
        metadata = bearer(settings.internal_token.get_secret_value())
        sends = wiring.provider.channel
        self._settings = settings
        self._wiring = wiring
        self._nats = nats
        self._reporter = Reporter(
            journal,
            sends,
            linger_seconds=settings.sender_reports_linger_seconds,
            unacknowledged_max=settings.sender_reports_unacknowledged_max,
        )
        self._stream = DeliveryStream(channel, metadata, sends, journal, self._reporter)
        accounts = Accounts(channel, metadata, sends)
        campaigns = PreparedCampaigns(channel, metadata, accounts, wiring.provider)
        self._slots: Slots[PreparedT] = Slots(
            wiring.provider,
            journal,
            slots_max=wiring.concurrency_max,
            concurrency_start=wiring.concurrency_start,
            upload_seconds_max=wiring.upload_seconds_max,
        )
        self._inbox = Inbox(Publisher(nats), inbox_subject(sends))
        self._adopter = Adopter(settings.sender_journal_dir, self._reporter)
        over = OverRuns()
        self._stops = StopListener(nats, sends, over)
        self._worker = Worker(
            consumer=self._consumer(JOBS_STREAM, jobs_consumer(sends).durable_name),
            stream=self._stream,
            reporter=self._reporter,
            slots=self._slots,
            campaigns=campaigns,
            accounts=accounts,
            look_ups=LookUps(self._stream, self._reporter, campaigns, wiring.provider),
            over=over,
        )
        self._own = wiring.parts(
            SharedParts(
                nats=nats,
                channel=channel,
                metadata=metadata,
                accounts=accounts,
                inbox=self._inbox,
                reporter=self._reporter,
                stream=self._stream,
                faults=self.faults,
            )
        )
        self._forwarder = Forwarder(
            self._consumer(INBOX_STREAM, inbox_consumer(sends).durable_name),
            self._stream,
            self._reporter,
            self._own.interpret,
        )

    def _consumer(self, stream: str, durable: str | None) -> PullConsumer:
        assert durable is not None
        return PullConsumer(self._nats, stream=stream, durable=durable, ensure=self._ensure)

    async def _ensure(self, jetstream: JetStreamContext) -> None:
        await ensure_topology(jetstream, (self._wiring.provider.channel,))

    def faults(self) -> list[str]:
        """What is not connected now."""
        faults = []
        if not self._stream.is_connected:
            faults.append("campaign service: no delivery stream")
        if not self._nats.is_connected:
            faults.append("NATS: not connected")
        return faults

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish or hand back what is claimed and have it committed."""
        wiring = self._wiring
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(until_cancelled(name, run(), stopping=stop))
                for name, run in self._parts().items()
            ]
            async with listening(self._own.handle, wiring.http_host, wiring.http_port):
                await stop.wait()
                await self._drain()
            for task in running:
                task.cancel()

    def _parts(self) -> dict[str, BackgroundPart]:
        """What runs until the end; the end of one before that ends the process."""
        return {
            "stream": self._stream.run,
            "reporter": self._reporter.run,
            "slots": self._slots.run,
            "inbox": self._inbox.run,
            "forwarder": self._forwarder.run,
            "adopter": self._adopter.run,
            "stops": self._stops.run,
            "worker": self._worker.run,
            **self._own.background,
        }

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._settings.sender_drain_seconds_max):
                await self._worker.drain()
                await self._stream.end_current()
                await self._reporter.flushed()
        except TimeoutError:
            # the journal stays; the next sender tells what is in it
            _log.warning("drain_timed_out", unacknowledged=self._reporter.unacknowledged)
        else:
            _log.info("drained")


async def run_sender(
    settings: SendingSettings, wiring: Wiring[PreparedT], stop: asyncio.Event
) -> None:
    """Run a sender until `stop` is set."""
    async with AsyncExitStack() as resources:
        journal = Journal(settings.sender_journal_dir)
        resources.callback(journal.close)
        nats = await resources.enter_async_context(
            nats_connection(settings.nats_url, name=wiring.name)
        )
        channel = create_channel(settings.campaign_internal_address)
        resources.push_async_callback(channel.close)
        await Sender(settings, wiring, nats, channel, journal).run(stop)
