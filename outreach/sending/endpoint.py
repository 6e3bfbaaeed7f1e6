"""The HTTP endpoint of a sender: webhooks, and whether it is well."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

#: Where health is asked for.
HEALTH_PATH: Final = "/healthz"
#: For webhooks that are being stored when the endpoint closes.
SHUTDOWN_SECONDS_MAX: Final = 5.0
#: From the end of a request's headers to that of its body.
BODY_SECONDS_MAX: Final = 30.0

#: Answers every request of the endpoint (an aiohttp low-level handler).
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
#: What is not connected; empty when all is well.
Faults = Callable[[], list[str]]

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """Answer with this status, no body."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def read_body(
    request: web.BaseRequest, bytes_max: int, *, seconds_max: float = BODY_SECONDS_MAX
) -> bytes:
    """The body as it came. Raises Refused: 413 as soon as it is known to be longer, 400 when it is
    cut, 408 when it takes too long.
    """
    if (request.content_length or 0) > bytes_max:
        raise Refused(413)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds_max):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > bytes_max:
                    raise Refused(413)
    except TimeoutError as error:
        raise Refused(408) from error
    except (aiohttp.ClientError, web.RequestPayloadError, OSError) as error:
        raise Refused(400) from error  # nobody is there to hear it
    return bytes(body)


def health(faults: Faults) -> web.Response:
    """The answer to `HEALTH_PATH`."""
    found = faults()
    return web.Response(
        status=503 if found else 200,
        body=orjson.dumps({"status": "unhealthy" if found else "ok", "faults": found}),
        content_type="application/json",
    )


class _UnreadableRequests(logging.Filter):
    """What is no HTTP is one line: the endpoint is open to anybody, and this is not our fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        _log.warning("webhook_unreadable", error=type(error).__name__)
        return False


@asynccontextmanager
async def listening(handle: Handler, host: str, port: int) -> AsyncIterator[None]:
    """Serve the endpoint; port 0 takes a free one, which the log tells."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.filters[:] = [_UnreadableRequests()]
    runner = web.ServerRunner(
        # Signatures are of the bytes as they came, and what is short may be long once unpacked:
        # aiohttp does that before anybody asks, also for a stranger's request.
        web.Server(handle, access_log=None, logger=logger, auto_decompress=False),
        shutdown_timeout=SHUTDOWN_SECONDS_MAX,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        _log.info("listening", port=runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()
