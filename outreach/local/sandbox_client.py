"""What a program asks the provider double itself: knobs, replies, and the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

_CALL_SECONDS_MAX = 30.0
_PAGE_SIZE = 5_000


class SandboxRefused(Exception):
    """The sandbox did not take a request; the text is its answer."""


class SandboxClient:
    """The `/sandbox/` endpoints of a running sandbox (docs/sandbox.md); an async context manager.

    Args:
        url: where it listens, as in `http://127.0.0.1:8090`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS_MAX)
        self._http = aiohttp.ClientSession(base_url=url, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def knobs(self) -> dict[str, Any]:
        """The present knobs."""
        return await self._ask("GET", "/sandbox/knobs")

    async def set_knobs(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """Replace all knobs: those not given get their defaults."""
        return await self._ask("PUT", "/sandbox/knobs", body=knobs)

    async def change_knobs(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """Change these knobs only."""
        return await self._ask("PATCH", "/sandbox/knobs", body=knobs)

    async def fate(self, to: str) -> dict[str, Any]:
        """What a number will get under the present knobs."""
        return await self._ask("GET", "/sandbox/fate", parameters={"to": to})

    async def email_fate(self, email: str) -> dict[str, Any]:
        """What an address will get under the present knobs."""
        return await self._ask("GET", "/sandbox/fate", parameters={"email": email})

    async def reply(self, sender: str, body: str) -> dict[str, Any]:
        """Let a recipient write to us; the answer has the receiver's status."""
        return await self._ask("POST", "/sandbox/inbound", body={"from": sender, "body": body})

    async def ledger(self) -> dict[str, Any]:
        """The totals of what was accepted, refused and dropped."""
        return await self._ask("GET", "/sandbox/ledger")

    async def reset_ledger(self) -> None:
        """Forget all messages, opt-outs and first tries, and the callbacks that are due."""
        await self._ask("DELETE", "/sandbox/ledger")

    def ledger_messages(self, after: int = -1) -> AsyncIterator[dict[str, Any]]:
        """Every accepted message whose number is above `after`, in the order of acceptance."""
        return self._rows("/sandbox/ledger/messages", "messages", after)

    async def email_ledger(self) -> dict[str, Any]:
        """The totals of the emails that were accepted, and of the requests that were refused."""
        return await self._ask("GET", "/sandbox/sendgrid/ledger")

    async def reset_email_ledger(self) -> None:
        """Forget all emails, suppressions and first tries, and the events that are due."""
        await self._ask("DELETE", "/sandbox/sendgrid/ledger")

    def ledger_emails(self, after: int = -1) -> AsyncIterator[dict[str, Any]]:
        """Every accepted email whose number is above `after`, in the order of acceptance."""
        return self._rows("/sandbox/sendgrid/ledger/emails", "emails", after)

    async def recent_emails(self) -> list[dict[str, Any]]:
        """The last 100 emails, newest first, each with the path of its `page`."""
        emails: list[dict[str, Any]] = (await self._ask("GET", "/sandbox/emails/recent"))["emails"]
        return emails

    async def email(self, sg_message_id: str) -> dict[str, Any]:
        """One recipient's email in full: subject, headers, html, text, attachments, events."""
        return await self._ask("GET", f"/sandbox/emails/{sg_message_id}.json")

    async def _rows(self, path: str, key: str, first: int) -> AsyncIterator[dict[str, Any]]:
        after: int | None = first
        while after is not None:
            parameters = {"after": str(after), "limit": str(_PAGE_SIZE)}
            page = await self._ask("GET", path, parameters=parameters)
            for row in page[key]:
                yield row
            after = page["next_after"]

    async def recent_messages(self) -> list[dict[str, Any]]:
        """The last 100 messages that were accepted, with their texts; the newest first."""
        messages: list[dict[str, Any]] = (await self._ask("GET", "/sandbox/messages/recent"))[
            "messages"
        ]
        return messages

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        data = None if body is None else orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        async with self._http.request(method, path, params=parameters, data=data) as answer:
            content = await answer.read()
            if answer.status != 200:
                text = content.decode(errors="replace")
                raise SandboxRefused(f"{method} {path}: {answer.status} {text}")
            answered: dict[str, Any] = orjson.loads(content)
            return answered
