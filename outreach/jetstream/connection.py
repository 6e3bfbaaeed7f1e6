"""One NATS connection a process, kept up for ever.

nats-py's defaults give up after 60 reconnects and notice a hung server only after minutes; neither
suits a service.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

PING_INTERVAL_SECONDS = 2
PINGS_OUTSTANDING_MAX = 2
CONNECT_SECONDS_MAX = 5
RECONNECT_WAIT_SECONDS = 0.25
#: What may wait for a lost connection before a publish is refused.
PENDING_BYTES_MAX = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)


class NatsNotConnected(Exception):
    """NATS can't be reached at this moment; the connection is being set up again."""


#: What a call may raise when NATS or JetStream is not there, slow, or refuses.
NATS_FAULTS: Final = (NatsError, JetStreamError, NatsNotConnected, OSError, TimeoutError)


class NatsConnection:
    """The connection and what stands on it. Made by `nats_connection`.

    `client` may be used for subscriptions once `connected` has been waited for; it reconnects by
    itself.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream()  # type: ignore[no-untyped-call, unused-ignore]
        self._first = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether the server answers now."""
        return self._first.is_set() and self.client.is_connected

    async def connected(self) -> None:
        """Wait for the first connection."""
        await self._first.wait()

    def require(self) -> None:
        """Raise NatsNotConnected instead of queueing on a lost connection."""
        if not self.is_connected:
            raise NatsNotConnected


@asynccontextmanager
async def nats_connection(url: str, *, name: str) -> AsyncIterator[NatsConnection]:
    """Connect in the background and stay connected until the block ends.

    A server that is down is waited for. `name` is what the server's monitoring shows.
    """

    async def on_error(error: Exception) -> None:
        _log.warning("nats_error", error=type(error).__name__)

    async def on_disconnected() -> None:
        _log.warning("nats_disconnected")

    async def on_reconnected() -> None:
        _log.info("nats_reconnected")

    connection = NatsConnection(Client())

    async def connect() -> None:
        await connection.client.connect(
            servers=url,
            name=name,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            connect_timeout=CONNECT_SECONDS_MAX,
            reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # slept for: a float is fine
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL_SECONDS,
            max_outstanding_pings=PINGS_OUTSTANDING_MAX,
            pending_size=PENDING_BYTES_MAX,
        )
        connection._first.set()  # noqa: SLF001 - the factory of the class

    connecting = asyncio.create_task(connect(), name="nats-connect")
    try:
        yield connection
    finally:
        # Again until it has ended: a cancellation that comes as a try fails is swallowed by `asyncio.wait_for`
        # (Python 3.11), and nats-py tries once more, for ever.
        while not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting}, timeout=RECONNECT_WAIT_SECONDS)
        with suppress(asyncio.CancelledError, NatsError, OSError):
            await connecting
        with suppress(*NATS_FAULTS):
            await connection.client.close()
