"""The provider's ledger, read as it grows: each row goes to the campaign that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from chaos.bounds import unanswered_calls
from chaos.history import Acceptance
from chaos.record.ledger import acceptance_of
from outreach.local.sandbox_client import SandboxClient, SandboxRefused
from outreach.sending.attempt_token import TokenKey
from outreach.vocabulary import Channel

_LOOK_SECONDS = 2.0


class LedgerFollower:
    """Hands each new acceptance on, once, in the order of its channel.

    Attributes:
        accepted: how many there were.
        unanswered: of each channel the calls that took nothing and whose answer, if any, does not say so.

    Args:
        sandbox: whose ledger; it may be down for a while.
        token_key: reads the attempts that its rows name.
        take: is given each acceptance.
    """

    def __init__(
        self, sandbox: SandboxClient, token_key: TokenKey, take: Callable[[Acceptance], None]
    ) -> None:
        self.accepted = 0
        self.unanswered = dict.fromkeys(Channel, 0)
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
                sms, email = await self._sandbox.ledger(), await self._sandbox.email_ledger()
            except (aiohttp.ClientError, SandboxRefused, OSError, TimeoutError):
                return False
            self.unanswered = unanswered_calls(sms, email)
            return True

    def _hand_on(self, acceptance: Acceptance) -> None:
        self.accepted += 1
        self._take(acceptance)
