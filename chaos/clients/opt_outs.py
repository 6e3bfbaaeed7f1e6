"""Recipients who opt out in the middle of a run: by a call, by a reply, by the link in an email."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp

from chaos.clients.calls import answered
from chaos.history import History, OptedOut
from chaos.wire import wire_channel
from outreach.client import CallError, OutreachClient
from outreach.local.sandbox_client import SandboxClient, SandboxRefused
from outreach.vocabulary import Channel

_LOOK_SECONDS = 0.1
#: After so long without a sign of it the recipient opts out once more: NATS may lose what it has taken.
_AGAIN_SECONDS = 6.0


class OptOuts:
    """Opts recipients out, and writes down by when each opt-out was certainly committed."""

    def __init__(self, client: OutreachClient, history: History) -> None:
        self._client = client
        self._history = history

    async def by_call(self, channel: Channel, recipient: str) -> None:
        """A colleague enters the recipient; the answer comes after the commit."""
        await answered(lambda: self._client.create_suppression(wire_channel(channel), recipient))
        self._note(channel, recipient, "call")

    async def by_reply(self, sandbox: SandboxClient, recipient: str) -> None:
        """The recipient of an SMS answers STOP."""

        async def reply() -> None:
            await sandbox.reply(recipient, "STOP")

        await self._until_committed(Channel.SMS, recipient, reply)
        self._note(Channel.SMS, recipient, "reply")

    async def by_link(self, http: aiohttp.ClientSession, url: str, recipient: str) -> None:
        """The recipient of an email, or their mail program, uses the unsubscribe link."""

        async def post() -> None:
            async with http.post(url, data={"List-Unsubscribe": "One-Click"}) as answer:
                await answer.read()

        await self._until_committed(Channel.EMAIL, recipient, post)
        self._note(Channel.EMAIL, recipient, "link")

    async def _until_committed(
        self, channel: Channel, recipient: str, opt_out: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            try:
                await opt_out()
            except (aiohttp.ClientError, TimeoutError, SandboxRefused):
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            deadline = time.monotonic() + _AGAIN_SECONDS
            while time.monotonic() < deadline:
                if await self._is_suppressed(channel, recipient):
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def _is_suppressed(self, channel: Channel, recipient: str) -> bool:
        try:
            await self._client.get_suppression(wire_channel(channel), recipient)
        except CallError:
            return False
        return True

    def _note(self, channel: Channel, recipient: str, source: str) -> None:
        self._history.opt_outs.append(
            OptedOut(
                channel=channel, recipient=recipient, source=source, committed_time=time.time()
            )
        )
