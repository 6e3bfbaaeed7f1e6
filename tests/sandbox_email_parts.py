"""What tests of, and with, the SendGrid half of the sandbox share: requests, and an event receiver."""

import contextlib
import io
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.sandbox.app import Sandbox, running
from services.sandbox.knobs import Knobs
from services.sandbox.settings import SandboxSettings
from tests.waiting import eventually

SENDER = "campaigns@outreach.example"
QUICK = {
    "event_delay_ms_min": 0,
    "event_delay_ms_max": 20,
    "event_batch_wait_ms": 5,
    "event_retry_seconds": 1.0,
    "deferral_seconds": 0.05,
    "late_bounce_seconds": 0.03,
    "engagement_seconds": 0.03,
}


def personalization(email: str, **more: Any) -> dict[str, Any]:
    return {"to": [{"email": email}], "custom_args": {"attempt_id": f"attempt-{email}"}, **more}


def mail(*emails: str, **more: Any) -> dict[str, Any]:
    """A request to these addresses, with an attempt for each."""
    return {
        "personalizations": [personalization(email) for email in emails],
        "from": {"email": SENDER, "name": "Outreach"},
        "subject": "Hello",
        "content": [
            {"type": "text/plain", "value": "Hello"},
            {"type": "text/html", "value": "<p>Hello</p>"},
        ],
        **more,
    }


@dataclass
class Post:
    """A POST of events as it came."""

    body: bytes
    signature: str
    timestamp: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(json.loads(self.body))

    def is_signed_by(self, public_key: str) -> bool:
        key = serialization.load_der_public_key(b64decode(public_key))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            signed = self.timestamp.encode() + self.body
            key.verify(b64decode(self.signature), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass
class EventReceiver:
    """Takes events, and answers each POST with what `answer` says (a status, or None: no answer)."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answer: Callable[[Post], int | None] = lambda _: 204

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, also those of posts that were not answered with 2xx."""
        return [event for post in self.posts for event in post.events]

    def kinds(self, email: str) -> list[str]:
        return [event["event"] for event in self.events if event.get("email") == email]


@contextlib.asynccontextmanager
async def receiving_events() -> AsyncIterator[EventReceiver]:
    receiver = EventReceiver()

    async def receive(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        assert request.headers["Content-Type"] == "application/json"
        post = Post(
            body,
            request.headers["X-Twilio-Email-Event-Webhook-Signature"],
            request.headers["X-Twilio-Email-Event-Webhook-Timestamp"],
        )
        receiver.posts.append(post)
        status = receiver.answer(post)
        if status is None:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 500)

    runner = web.ServerRunner(web.Server(receive), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class Answered:
    """An answer: `body` is its JSON, or its text."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def fields(self) -> list[str | None]:
        return [error["field"] for error in self.body["errors"]]

    @property
    def messages(self) -> list[str]:
        return [error["message"] for error in self.body["errors"]]


@dataclass
class EmailBench:
    """A sandbox, a session to it, and a receiver of its events."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    receiver: EventReceiver

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> Answered:
        """A request with the API key."""
        used = self.sandbox.settings.sendgrid_api_key if key is None else key
        return await asked(self.session, self.sandbox.url, method, path, body, used)

    async def send(self, *emails: str, **more: Any) -> Answered:
        return await self.ask("POST", "/v3/mail/send", mail(*emails, **more))

    async def ledger(self) -> dict[str, Any]:
        return dict((await self.ask("GET", "/sandbox/sendgrid/ledger")).body)

    async def rows(self) -> list[dict[str, Any]]:
        return list(
            (await self.ask("GET", "/sandbox/sendgrid/ledger/emails?limit=10000")).body["emails"]
        )

    async def settle(self) -> None:
        """Wait until no event is still to be posted."""

        async def settled() -> bool:
            return bool((await self.ledger())["emails_with_pending_events"] == 0)

        await eventually(settled, 60, "all events posted")


async def asked(
    session: aiohttp.ClientSession, url: str, method: str, path: str, body: Any, key: str
) -> Answered:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    data = None if body is None else io.BytesIO(content)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with session.request(method, f"{url}{path}", data=data, headers=headers) as answer:
        text = await answer.text()
        parsed = json.loads(text) if answer.content_type == "application/json" else text
        return Answered(answer.status, dict(answer.headers), parsed)


@contextlib.asynccontextmanager
async def email_bench(**knobs: Any) -> AsyncIterator[EmailBench]:
    """A bench with these email knobs; events come within 50 ms unless the knobs say otherwise."""
    async with receiving_events() as receiver:
        chosen = SandboxSettings(
            http_port=0,
            seed="test",
            knobs=Knobs.model_validate({"email": {**QUICK, **knobs}}),
            sendgrid_event_url=receiver.url,
            # More at a time could overtake each other.
            callback_connections_max=1,
        )
        async with running(chosen) as sandbox, aiohttp.ClientSession() as session:
            yield EmailBench(sandbox, session, receiver)
