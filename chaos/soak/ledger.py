"""The provider's ledger, read as it grows: each row goes to the campaign that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from chaos.history import Acceptance
from chaos.record.ledger import acceptance_of
from outreach.local.sandbox_client import SandboxClient, SandboxRefused
from outreach.sending.attempt_token import TokenKey
from outreach.vocabulary import Channel

_LOOK_SECONDS = 2.0
#: Totals of calls that the provider answered in a way that says nothing, and took nothing.
_UNANSWERED = ("http_500_before_accept", "dropped_before_accept", "unavailable")


class LedgerFollower:
    """Hands each new acceptance on, once, in the order of its channel.

    Attributes:
        accepted: how many there were.
        unanswered: calls that took nothing and whose answer, if any, does not say so.

    Args:
        sandbox: whose ledger; it may be down for a while.
        token_key: reads the attempts that its rows name.
        take: is given each acceptance.
    """

    def __init__(
        self, sandbox: SandboxClient, token_key: TokenKey, take: Callable[[Acceptance], None]
    ) -> None:
        self.accepted = self.unanswered = 0
        self._sandbox = sandbox
        self._token_key = token_key
        self._take = take
        self._last_message = self._last_email = -1
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.catch_up()
            await asyncio.sleep(_LOOK_SECONDS)

    async def catch_up(self) -> bool:
        """Read what is new; false when the sandbox does not answer."""
        async with self._reading:
            try:
                async for row in self._sandbox.ledger_messages(after=self._last_message):
                    self._last_message = row["number"]
                    self._hand_on(acceptance_of(Channel.SMS, row, self._token_key))
                async for row in self._sandbox.ledger_emails(after=self._last_email):
                    self._last_email = row["number"]
                    self._hand_on(acceptance_of(Channel.EMAIL, row, self._token_key))
                totals = await self._sandbox.ledger(), await self._sandbox.email_ledger()
            except (aiohttp.ClientError, SandboxRefused, OSError, TimeoutError):
                return False
            self.unanswered = sum(int(t.get(name, 0)) for t in totals for name in _UNANSWERED)
            return True

    def _hand_on(self, acceptance: Acceptance) -> None:
        self.accepted += 1
        self._take(acceptance)
