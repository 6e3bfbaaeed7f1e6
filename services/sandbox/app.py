"""Wires the sandbox together and runs it as a process."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import structlog
import uvloop
from aiohttp import web
from pydantic import ValidationError

from services.sandbox.control import Control
from services.sandbox.http import Answer, Request
from services.sandbox.journal import Journal
from services.sandbox.knob_store import KnobStore, replace_file
from services.sandbox.sendgrid.account import SendGridAccount
from services.sandbox.sendgrid.double import REQUEST_BYTES_MAX, SendGridDouble
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.settings import SandboxSettings
from services.sandbox.twilio import api
from services.sandbox.twilio.api import TwilioApi
from services.sandbox.twilio.callbacks import CallbackDispatcher, SignedPoster
from services.sandbox.twilio.inbound import InboundMessages
from services.sandbox.twilio.ledger import MessageLedger
from services.sandbox.twilio.validation import Account
from services.sandbox.webhooks import WebhookClient

SHUTDOWN_SECONDS_MAX = 2.0
OTHER_REQUEST_BYTES_MAX = 1024 * 1024
"""Of all requests but SendGrid's."""

_log = structlog.get_logger("sandbox")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox."""

    settings: SandboxSettings
    port: int
    ledger: MessageLedger
    emails: EmailLedger
    knobs: KnobStore

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        return f"http://{self.settings.http_host}:{self.port}"


@contextlib.asynccontextmanager
async def running(settings: SandboxSettings) -> AsyncIterator[Sandbox]:
    """A sandbox that listens until the block is left."""
    data_dir = settings.data_dir
    knobs = KnobStore(settings.knobs, settings.seed, data_dir and data_dir / "knobs.json")
    journal = Journal(data_dir and data_dir / "messages.jsonl")
    ledger = MessageLedger(journal)
    account = Account(settings.account_sid, settings.messaging_service_sid, settings.sender_numbers)
    client = WebhookClient()
    poster = SignedPoster(settings.auth_token, client)
    callbacks = CallbackDispatcher(
        ledger, account, poster, lambda: knobs.knobs, settings.callback_connections_max
    )
    inbound = InboundMessages(ledger, account, poster, settings.inbound_url)
    twilio = TwilioApi(account, settings.auth_token, ledger, callbacks, lambda: knobs.fates)
    sendgrid = SendGridDouble(
        SendGridAccount(
            settings.sendgrid_api_key,
            settings.sendgrid_verified_senders,
            settings.sendgrid_domains,
        ),
        data_dir,
        client,
        lambda: knobs.email_fates,
        settings.sendgrid_event_url,
        settings.callback_connections_max,
    )
    own = Control(knobs, ledger, callbacks, inbound, sendgrid.control)
    callbacks.resume()
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            dispatching = [
                tasks.create_task(callbacks.run()),
                tasks.create_task(sendgrid.run()),
            ]
            try:
                async with _listening(settings, twilio, sendgrid, own) as port:
                    yield Sandbox(settings, port, ledger, sendgrid.ledger, knobs)
            except Exception as error:  # noqa: BLE001 raised again below, not as a group
                failure = error
            finally:
                for task in dispatching:
                    task.cancel()
        if failure is not None:
            raise failure
    finally:
        client.close()
        journal.close()
        sendgrid.close()


@contextlib.asynccontextmanager
async def _listening(
    settings: SandboxSettings, twilio: TwilioApi, sendgrid: SendGridDouble, own: Control
) -> AsyncIterator[int]:
    async def answer(raw: web.BaseRequest) -> web.StreamResponse:
        path, _, query = raw.raw_path.partition("?")
        authorization = raw.headers.get("Authorization", "")
        is_sendgrid = sendgrid.serves(path)
        most = REQUEST_BYTES_MAX if is_sendgrid else OTHER_REQUEST_BYTES_MAX
        body, cut = await _body(raw, most) if raw.body_exists else (b"", False)
        content_type = raw.headers.get("Content-Type", "")
        request = Request(raw.method, path, query, authorization, body, content_type, cut)
        if cut and not is_sendgrid:
            result = Answer(413)
        elif path.startswith(api.PATH_PREFIX):
            result = await twilio.handle(request)
        elif is_sendgrid:
            result = await sendgrid.handle(request)
        else:
            result = await own.handle(request)
        return _response(raw, result)

    # The low-level server: an application's router, middlewares and access log would cost more than
    # the sandbox itself.
    server = web.Server(answer, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS_MAX)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.http_host, settings.http_port, backlog=1024)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _body(raw: web.BaseRequest, bytes_max: int) -> tuple[bytes, bool]:
    """The body, and whether it was longer than what is kept of it."""
    # Read to its end in any case: a client that is still sending would not see the answer.
    kept = bytearray()
    cut = False
    while chunk := await raw.content.readany():
        if not cut:
            kept += chunk
        if len(kept) > bytes_max:
            cut = True
            kept.clear()
    return bytes(kept), cut


def _response(raw: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    if answer.dropped:
        transport = raw.transport
        if transport is not None:
            transport.abort()
        return web.Response(status=500)
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def serve(settings: SandboxSettings) -> None:
    """Run until SIGTERM or SIGINT; the address is in the first log line and in the ready file."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings) as sandbox:
        _log.info("listening", host=settings.http_host, port=sandbox.port, url=sandbox.url)
        if settings.ready_file is not None:
            replace_file(settings.ready_file, orjson.dumps({"port": sandbox.port}))
        await stopped.wait()
        _log.info("stopping", accepted=len(sandbox.ledger), emails=len(sandbox.emails))


def main() -> None:
    """The process; it ends with 2 if a setting is not valid."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
    )
    try:
        settings = SandboxSettings()
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        for problem in problems:
            name = "OUTREACH_SANDBOX_" + "_".join(map(str, problem["loc"])).upper()
            print(f"{name}: {problem['msg']}", file=sys.stderr)  # noqa: T201 the process's own error
        sys.exit(2)
    uvloop.run(serve(settings))
