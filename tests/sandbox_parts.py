"""What tests of, and with, the sandbox share: Twilio's client on it, and a webhook receiver."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from services.sandbox.app import Sandbox, running
from services.sandbox.knobs import Knobs
from services.sandbox.settings import SandboxSettings
from tests.waiting import eventually

QUICK = {"callback_delay_ms_min": 0, "callback_delay_ms_max": 20, "callback_retry_seconds": 0.3}


class RewritingHttpClient(AsyncHttpClient):  # type: ignore[misc]  # twilio has no types
    """Twilio's client over our session, to another base URL; keeps the last answer's headers."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        super().__init__(logger=None, is_async=True)
        self._session = session
        self._base_url = base_url
        self.headers: dict[str, str] = {}

    async def request(
        self,
        method: str,
        url: str,
        params: dict[str, str] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        assert auth is not None
        sent = {**(headers or {}), "Authorization": aiohttp.encode_basic_auth(*auth)}
        async with self._session.request(
            method,
            url.replace("https://api.twilio.com", self._base_url),
            params=params,
            data=data,
            headers=sent,
            allow_redirects=allow_redirects,
        ) as answer:
            self.headers = dict(answer.headers)
            return Response(answer.status, await answer.text(), answer.headers)


@dataclass
class Received:
    """A webhook as it came: URL as configured (without fragment), form, and the headers."""

    url: str
    form: dict[str, str]
    signature: str
    token: str

    def is_signed_with(self, auth_token: str) -> bool:
        return bool(RequestValidator(auth_token).validate(self.url, self.form, self.signature))


@dataclass
class Receiver:
    """Takes webhooks, and answers each with what `answer` says (a status, or None: no answer)."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], int | None] = lambda _: 204

    def statuses(self, attempt: str) -> list[str]:
        return [
            one.form["MessageStatus"] for one in self.received if one.url.endswith(f"/{attempt}")
        ]


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()

    async def receive(request: web.BaseRequest) -> web.StreamResponse:
        form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        one = Received(
            f"{receiver.url}{request.raw_path}",
            form,
            request.headers["X-Twilio-Signature"],
            request.headers["I-Twilio-Idempotency-Token"],
        )
        receiver.received.append(one)
        status = receiver.answer(one)
        if status is None:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 500)

    runner = web.ServerRunner(web.Server(receive), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class Bench:
    """A sandbox, a session to it, Twilio's client on it, and a receiver of its webhooks."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    transport: RewritingHttpClient
    twilio: Client
    receiver: Receiver

    @property
    def settings(self) -> SandboxSettings:
        return self.sandbox.settings

    async def send(self, to: str, attempt: str = "", **more: Any) -> Any:
        """Create a message through the Messaging Service, with callbacks for `attempt`."""
        asked: dict[str, Any] = {
            "to": to,
            "body": "Hello",
            "messaging_service_sid": self.settings.messaging_service_sid,
        }
        if attempt:
            asked["status_callback"] = f"{self.receiver.url}/status/{attempt}#rc=5&rp=all"
        return await self.twilio.messages.create_async(**{**asked, **more})

    async def post(
        self, form: dict[str, str], auth: tuple[str, str] | None = None
    ) -> tuple[int, Any]:
        """Post a create as it stands; status and JSON of the answer."""
        user, password = auth or (self.settings.account_sid, self.settings.auth_token)
        path = f"/2010-04-01/Accounts/{self.settings.account_sid}/Messages.json"
        async with self.session.post(
            f"{self.sandbox.url}{path}",
            data=form,
            headers={"Authorization": aiohttp.encode_basic_auth(user, password)},
        ) as answer:
            return answer.status, await answer.json()

    async def own(self, method: str, path: str, json: Any = None) -> tuple[int, Any]:
        """One of the sandbox's own endpoints; status and JSON of the answer."""
        async with self.session.request(method, f"{self.sandbox.url}{path}", json=json) as answer:
            return answer.status, await answer.json()

    async def ledger(self) -> dict[str, Any]:
        return dict((await self.own("GET", "/sandbox/ledger"))[1])

    async def settle(self) -> None:
        """Wait until no callback is still to be made."""
        await eventually(self._is_settled, 60, "all callbacks made")

    def _is_settled(self) -> bool | Awaitable[bool]:
        async def asked() -> bool:
            return bool((await self.ledger())["messages_with_pending_callbacks"] == 0)

        return asked()


@contextlib.asynccontextmanager
async def sandbox_bench(**knobs: Any) -> AsyncIterator[Bench]:
    """A bench with these knobs; callbacks come within 20 ms unless the knobs say otherwise."""
    chosen = SandboxSettings(
        http_port=0, seed="test", knobs=Knobs.model_validate({**QUICK, **knobs})
    )
    async with (
        receiving() as receiver,
        running(chosen) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        transport = RewritingHttpClient(session, sandbox.url)
        twilio = Client(chosen.account_sid, chosen.auth_token, http_client=transport)
        yield Bench(sandbox, session, transport, twilio, receiver)
