"""A scripted Twilio: a raw HTTP server whose answers, cuts and silences a test chooses.

The sandbox is the faithful double; this one misbehaves on the wire in ways it does not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

Fields = dict[str, str]


@dataclass
class Reply:
    """What a create gets. `cut_after` bytes of the answer the connection is reset; None: never."""

    status: int = 201
    body: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    silent: bool = False
    raw: bytes | None = None


def refused(code: int, status: int = 400) -> Reply:
    """An error as Twilio words it, with the recipient in its text as Twilio has it."""
    body = {
        "code": code,
        "message": "something about +41790000001",
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Reply(status, body)


class TwilioDouble:
    """`script(fields, tries)` gives the reply to a create; `tries` counts for the recipient."""

    def __init__(self) -> None:
        self.script: Callable[[Fields, int], Reply] = lambda fields, tries: Reply()
        self.creates: list[Fields] = []
        self.accepted: list[tuple[str, str]] = []
        self.listed: list[dict[str, object]] = []
        self.fetched: list[str] = []
        self.fetch_status = 200
        self.queries: list[dict[str, list[str]]] = []
        self.authorizations: set[str] = set()
        self.open = 0
        self.open_max = 0
        self.hold: asyncio.Event | None = None
        self.hold_lists: asyncio.Event | None = None
        self.keep = True
        self._tries: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                request, *lines = head.split("\r\n")
                method, target, _ = request.split(" ")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.authorizations.add(headers.get("authorization", ""))
                reply = await (self._create(body) if method == "POST" else self._list(target))
                if not await self._answer(reply, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # asyncio's own callback reports a cancelled handler as an error
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _create(self, body: bytes) -> Reply:
        fields = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        to = fields["To"]
        self._tries[to] = self._tries.get(to, 0) + 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            if self.hold is not None:
                await self.hold.wait()
            reply = self.script(fields, self._tries[to])
        finally:
            self.open -= 1
        if self.keep:
            self.creates.append(fields)
        if reply.status == 201:
            sid = f"SM{len(self.accepted):032x}"
            self.accepted.append((to, sid))
            if not reply.body:
                reply.body = {"sid": sid, "status": "accepted", "num_segments": "0"}
        return reply

    def _fetch(self, sid: str) -> Reply:
        self.fetched.append(sid)
        found = [message for message in self.listed if message["sid"] == sid]
        return Reply(self.fetch_status if found else 404, found[0] if found else {})

    async def _list(self, target: str) -> Reply:
        path = urlsplit(target).path
        if not path.endswith("/Messages.json"):
            return self._fetch(path.rpartition("/")[2].removesuffix(".json"))
        query = parse_qs(urlsplit(target).query)
        self.queries.append(query)
        if self.hold_lists is not None:
            await self.hold_lists.wait()
        (to,) = query["To"]
        found = [message for message in self.listed if message["to"] == to]
        return Reply(200, {"messages": found, "next_page_uri": None})

    async def _answer(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        if reply.silent:
            await asyncio.Event().wait()
        body = json.dumps(reply.body).encode() if reply.raw is None else reply.raw
        lines = [
            f"HTTP/1.1 {reply.status} X",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        answer = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
        if reply.cut_after is not None:
            writer.write(answer[: reply.cut_after])
            await writer.drain()
            writer.transport.abort()
            return False
        writer.write(answer)
        await writer.drain()
        return True

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on loopback; yields the base URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.close()
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    def list_message(self, to: str, body: str, sid: str, **changes: object) -> None:
        """Put a message into the list that look-ups read."""
        self.listed.append(
            {
                "sid": sid,
                "to": to,
                "from": None,
                "messaging_service_sid": "MG5a17d0b0c5a17d0b0c5a17d0b0c5a17d",
                "body": body,
                "status": "sent",
                "error_code": None,
                "num_segments": "1",
                "date_created": format_datetime(datetime.now(UTC)),
                **changes,
            }
        )
