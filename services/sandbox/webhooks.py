"""A small HTTP/1.1 client for webhooks: one POST, one status, connections kept.

aiohttp's client takes 200 µs of CPU for such a POST, and a message has up to four of them; this
takes a fifth, so that the sandbox leaves the cores to what is being measured.
"""

import asyncio
import ssl
from collections import defaultdict
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import urlsplit

_HEAD_BYTES_MAX = 65_536


class Failure(StrEnum):
    """Why there was no answer; the values are Twilio's names for what may be retried."""

    CONNECT = "ct"
    READ = "rt"


class WebhookFailed(Exception):
    """No answer came."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int
    host_header: str


@lru_cache(maxsize=256)
def origin_of(prefix: str) -> Origin:
    """Origin of `scheme://host[:port]`."""
    parts = urlsplit(prefix)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname or "", port, parts.netloc.rpartition("@")[2])


def split_url(url: str) -> tuple[Origin, str]:
    """Origin and request target of an http(s) URL, without its fragment."""
    url = url.partition("#")[0]
    scheme_end = url.index("://") + 3
    ends = [at for at in (url.find("/", scheme_end), url.find("?", scheme_end)) if at > 0]
    end = min(ends, default=len(url))
    target = url[end:]
    return origin_of(url[:end]), target if target.startswith("/") else f"/{target}"


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._buffer = b""
        self._status = 0
        self._body_bytes_left = 0
        self.reusable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by shape only.
        self._transport = cast(asyncio.Transport, transport)

    async def post(self, request: bytes, read_timeout_seconds: float) -> int:
        assert self._transport is not None
        self._buffer, self._status, self.reusable = b"", 0, False
        if self._transport.is_closing():
            raise WebhookFailed(Failure.CONNECT)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(read_timeout_seconds):
                return await self._answer
        except TimeoutError as error:
            raise WebhookFailed(Failure.READ) from error
        finally:
            self._answer = None

    def data_received(self, data: bytes) -> None:
        if self._status:
            self._body_bytes_left -= len(data)
        else:
            self._buffer += data
            self._read_head()
        if self._status and self._body_bytes_left <= 0:
            self._finish(reusable=self._body_bytes_left == 0)

    def _read_head(self) -> None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                self.close()
            return
        lines = head.split(b"\r\n")
        status = int(lines[0][9:12]) if lines[0][9:12].isdigit() else 0
        if 100 <= status < 200:
            self._buffer = rest
            self._read_head()
            return
        headers = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        length = headers.get(b"content-length", b"0" if status in (204, 304) else b"")
        keeps = headers.get(b"connection") != b"close" and lines[0].startswith(b"HTTP/1.1")
        # Without a length the end of the body is not known here: take the status, drop the rest.
        self._body_bytes_left = int(length) - len(rest) if keeps and length.isdigit() else -1
        self._status = status

    def _finish(self, *, reusable: bool) -> None:
        self.reusable = reusable
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._status)
        if not reusable:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            # The receiver went away: for the caller's policy the same as not reaching it.
            self._answer.set_exception(WebhookFailed(Failure.CONNECT))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class WebhookClient:
    """Posts bodies; as many connections as there are posts at a time, which the caller limits."""

    def __init__(self) -> None:
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)
        self._tls: ssl.SSLContext | None = None

    async def post(
        self,
        url: str,
        headers: str,
        body: bytes,
        *,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        content_type: str = "application/x-www-form-urlencoded",
    ) -> int:
        """Status of the answer. `headers` are lines, each ended by CRLF.

        Raises:
            WebhookFailed: no connection, or no answer in time.
        """
        origin, target = split_url(url)
        request = (
            f"POST {target} HTTP/1.1\r\nHost: {origin.host_header}\r\n{headers}"
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        connection = self._kept(origin) or await self._connect(origin, connect_timeout_seconds)
        try:
            status = await connection.post(request, read_timeout_seconds)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle[origin].append(connection)
        return status

    def _kept(self, origin: Origin) -> _Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _connect(self, origin: Origin, timeout_seconds: float) -> _Connection:
        if origin.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(timeout_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection,
                    origin.host,
                    origin.port,
                    ssl=self._tls if origin.scheme == "https" else None,
                )
        except OSError as error:  # also TimeoutError and TLS errors
            raise WebhookFailed(Failure.CONNECT) from error
        return connection

    def close(self) -> None:
        """Close the kept connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
