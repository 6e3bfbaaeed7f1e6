"""The SMS sender: everything wired together, and its end."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from nats.js import JetStreamContext

from outreach.background import BackgroundTaskEnded, until_cancelled
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
from outreach.sending.attempt_token import TokenKey
from outreach.sending.contents import Accounts, PreparedCampaigns
from outreach.sending.inbox import Forwarder, Inbox
from outreach.sending.journal import Journal
from outreach.sending.look_ups import LookUps
from outreach.sending.reporter import Reporter
from outreach.sending.slots import Slots
from outreach.sending.stream import DeliveryStream
from outreach.sending.worker import Worker
from outreach.vocabulary import Channel
from services.sender_sms.adapter import PreparedSms, TwilioProvider
from services.sender_sms.events import interpret
from services.sender_sms.settings import SenderSmsSettings
from services.sender_sms.transport import TwilioTransport
from services.sender_sms.webhooks import Webhooks

NAME = "sender_sms"
#: For webhooks that are being stored when the endpoint closes.
SHUTDOWN_SECONDS_MAX = 5.0
_log = structlog.get_logger(__name__)


async def _ensure(jetstream: JetStreamContext) -> None:
    await ensure_topology(jetstream, (Channel.SMS,))


class SenderSms:
    """The sender's parts. `start` once, then `run` until `stop`."""

    def __init__(
        self,
        settings: SenderSmsSettings,
        nats: NatsConnection,
        channel: grpc.aio.Channel,
        transport: TwilioTransport,
        journal: Journal,
    ) -> None:
        metadata = bearer(settings.internal_token.get_secret_value())
        token_key = TokenKey(settings.attempt_token_key.get_secret_value())
        self._settings = settings
        self._nats = nats
        self._reporter = Reporter(
            journal,
            linger_seconds=settings.sender_reports_linger_seconds,
            unacknowledged_max=settings.sender_reports_unacknowledged_max,
        )
        self._stream = DeliveryStream(channel, metadata, Channel.SMS, journal, self._reporter)
        provider = TwilioProvider(
            transport,
            token_key,
            api_url=settings.twilio_api_url,
            webhook_url=settings.sender_sms_webhook_url,
        )
        accounts = Accounts(channel, metadata, Channel.SMS)
        campaigns = PreparedCampaigns(channel, metadata, accounts, provider)
        self._slots: Slots[PreparedSms] = Slots(
            provider,
            journal,
            slots_max=settings.sender_sms_concurrency_max,
            concurrency_start=settings.sender_sms_concurrency_start,
        )
        self._inbox = Inbox(Publisher(nats), inbox_subject(Channel.SMS))
        self._forwarder = Forwarder(
            self._consumer(INBOX_STREAM, inbox_consumer(Channel.SMS).durable_name),
            self._stream,
            self._reporter,
            interpret,
        )
        self._adopter = Adopter(settings.sender_journal_dir, self._reporter)
        self._worker = Worker(
            consumer=self._consumer(JOBS_STREAM, jobs_consumer(Channel.SMS).durable_name),
            stream=self._stream,
            reporter=self._reporter,
            slots=self._slots,
            campaigns=campaigns,
            accounts=accounts,
            look_ups=LookUps(self._stream, self._reporter, campaigns, provider),
        )
        self._webhooks = Webhooks(
            inbox=self._inbox,
            accounts=accounts,
            token_key=token_key,
            webhook_url=settings.sender_sms_webhook_url,
            faults=self.faults,
        )

    def _consumer(self, stream: str, durable: str | None) -> PullConsumer:
        assert durable is not None
        return PullConsumer(self._nats, stream=stream, durable=durable, ensure=_ensure)

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
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(until_cancelled(name, run(), stopping=stop))
                for name, run in self._parts().items()
            ]
            async with _listening(self._webhooks, self._settings):
                await stop.wait()
                await self._drain()
            for task in running:
                task.cancel()

    def _parts(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What runs until the end; the end of one before that ends the process."""
        return {
            "stream": self._stream.run,
            "reporter": self._reporter.run,
            "slots": self._slots.run,
            "inbox": self._inbox.run,
            "forwarder": self._forwarder.run,
            "adopter": self._adopter.run,
            "worker": self._worker.run,
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


class _UnreadableRequests(logging.Filter):
    """What is no HTTP is one line: the endpoint is open to anybody, and this is not our fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        _log.warning("webhook_unreadable", error=type(error).__name__)
        return False


@asynccontextmanager
async def _listening(webhooks: Webhooks, settings: SenderSmsSettings) -> AsyncIterator[None]:
    """Serve the webhook endpoint."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.filters[:] = [_UnreadableRequests()]
    runner = web.ServerRunner(
        web.Server(webhooks.handle, access_log=None, logger=logger),
        shutdown_timeout=SHUTDOWN_SECONDS_MAX,
    )
    await runner.setup()
    try:
        site = web.TCPSite(
            runner,
            settings.sender_sms_http_host,
            settings.sender_sms_http_port,
        )
        await site.start()
        _log.info("listening", port=runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()


async def serve(settings: SenderSmsSettings, stop: asyncio.Event) -> None:
    """Run the sender until `stop` is set."""
    async with AsyncExitStack() as resources:
        journal = Journal(settings.sender_journal_dir)
        resources.callback(journal.close)
        nats = await resources.enter_async_context(nats_connection(settings.nats_url, name=NAME))
        channel = create_channel(settings.campaign_internal_address)
        resources.push_async_callback(channel.close)
        transport = TwilioTransport(
            connections_max=settings.sender_sms_concurrency_max + 16,  # look-ups come beside
            request_seconds_max=settings.sender_sms_request_seconds_max,
        )
        resources.push_async_callback(transport.close)
        sender = SenderSms(settings, nats, channel, transport, journal)
        await sender.run(stop)


async def main(settings: SenderSmsSettings) -> int:
    """Run until SIGTERM or SIGINT. Gives the exit code: 1 when it could not go on, as the log says."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    exit_code = 0
    # No SystemExit in here: it would leave inside of a group, which is no exit but a traceback.
    try:
        await serve(settings, stop)
    except* BackgroundTaskEnded:
        exit_code = 1
    except* OSError as failures:
        _log.error("stopped_by_error", errors=[str(error) for error in failures.exceptions])
        exit_code = 1
    return exit_code
