"""The transport to providers: one aiohttp session, explicit time-outs, no retries, no redirects.

(The providers' own packages post a create again when told to retry, ignore time-outs or have none.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import Payload
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

CONNECT_SECONDS_MAX: Final = 5.0
#: An idle connection is closed by us before the provider's side does it under a request.
KEEPALIVE_SECONDS_MAX: Final = 10.0
#: What is read of an answer to a create of one message (about 1 KB), and of a list. The rest of a
#: longer one is not read, and its connection not used again.
CREATED_BYTES_MAX: Final = 64 * 1024
LISTED_BYTES_MAX: Final = 8 * 1024 * 1024
DNS_CACHE_SECONDS: Final = 30
#: Large bodies go out in portions: others have their turn in between.
FLUSH_BYTES: Final = 256 * 1024

_SKIPPED_HEADERS: Final = frozenset((hdrs.ACCEPT_ENCODING,))


class BegunPayload(Payload):
    """A body that tells when the request is about to be whole.

    All its pieces but the last one leave first, and have been handed to the kernel when `begin` is
    called; only then the last one leaves. With a single piece nothing leaves before `begin`: aiohttp
    holds the headers back until the body's first write and sends both together.

    A request without its end is none: when `begin` raises, or the connection was lost before, it
    certainly was not processed, and aiohttp closes the connection.
    """

    _value: Sequence[bytes]

    def __init__(
        self, pieces: Sequence[bytes], content_type: str, begin: Callable[[], None]
    ) -> None:
        super().__init__(pieces, content_type=content_type)
        self._size = sum(map(len, pieces))
        self._begin = begin
        self._is_over = False
        self.begun = False

    def end(self) -> None:
        """The request is over; if it has not begun, it never will."""
        self._is_over = True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        assert content_length is None or content_length == self._size
        assert isinstance(writer, StreamWriter)
        for piece in self._value[:-1]:
            await _flush(writer, piece)
        transport = writer.transport
        if self._is_over or transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("closed before the request began")
        self._begin()
        self.begun = True
        await writer.write(self._value[-1])


async def _flush(writer: StreamWriter, piece: bytes) -> None:
    """Write in portions, each of which the kernel has when the next one follows."""
    transport = writer.transport
    if transport is not None:
        transport.set_write_buffer_limits(high=0)  # else "drained" means: not much is left
    rest = memoryview(piece)
    for start in range(0, len(rest), FLUSH_BYTES):
        await writer.write(rest[start : start + FLUSH_BYTES])
        await writer.drain()


class NothingLeft(Exception):
    """No byte of the request left this host, or its end did not: nothing can have been created.

    Says the name of the error, nothing else.
    """


class AnswerLost(Exception):
    """The request may have been received in full; there is no complete answer to it.

    `status` is the HTTP status when at least that arrived.
    """

    def __init__(self, cause: str, status: int | None) -> None:
        super().__init__(cause)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer, or the beginning of one that is too long to be a provider's."""

    status: int
    body: bytes
    headers: CIMultiDictProxy[str]


class HttpTransport:
    """Requests to a provider. Make it in a running loop; close it.

    `created_bytes_max`: of an answer to a create.
    """

    def __init__(
        self,
        *,
        connections_max: int,
        request_seconds_max: float,
        created_bytes_max: int = CREATED_BYTES_MAX,
    ) -> None:
        self._created_bytes_max = created_bytes_max
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max,
                keepalive_timeout=KEEPALIVE_SECONDS_MAX,
                ttl_dns_cache=DNS_CACHE_SECONDS,
            ),
            timeout=aiohttp.ClientTimeout(
                total=request_seconds_max, sock_connect=CONNECT_SECONDS_MAX
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED_HEADERS,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post_payload(
        self, url: URL, headers: CIMultiDict[str], payload: BegunPayload
    ) -> HttpAnswer:
        """Post a body that says when it begins. Raises NothingLeft or AnswerLost."""
        status: int | None = None
        try:
            async with self._session.post(
                url, data=payload, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
                body = await _read(response, self._created_bytes_max)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if not payload.begun:
                raise NothingLeft(type(error).__name__) from None
            raise AnswerLost(type(error).__name__, status) from None
        finally:
            payload.end()
        if not (payload.begun or _is_verdict(status)):
            raise NothingLeft(f"HTTP {status}")
        return HttpAnswer(status, body, response.headers)

    async def get(self, url: URL, headers: CIMultiDict[str]) -> HttpAnswer | None:
        """Get a resource; None when it could not be had."""
        return await self.ask("GET", url, headers)

    async def ask(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> HttpAnswer | None:
        """A request that may be made again; None when there is no answer to it."""
        if body is not None:
            headers = CIMultiDict(headers)
            headers[hdrs.CONTENT_TYPE] = content_type
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                told = await _read(response, LISTED_BYTES_MAX)
                return HttpAnswer(response.status, told, response.headers)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None


def _is_verdict(status: int) -> bool:
    """Whether it says what becomes of a request that is not whole; 408 waited for its end in vain."""
    return 200 <= status < 300 or (400 <= status < 500 and status != 408)


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body, cut off where it is longer: what is cut can't be read as JSON any more."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            response.close()
            return body[:bytes_max]
    return body
