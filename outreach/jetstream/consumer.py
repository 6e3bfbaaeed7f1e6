"""Pull from a durable consumer, through lost connections and wiped stores."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from outreach.cancellation import raise_if_cancelled
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection

#: Named, because nats-py shows its pull subscription only as an inner class.
PullSubscription = JetStreamContext.PullSubscription

_FAULT_PAUSE_SECONDS_MAX = 2.0
_REFUSED_PAUSE_SECONDS = 0.1
_log = structlog.get_logger(__name__)


class PullConsumer:
    """Fetches from one durable consumer. A fault is waited out, never raised: the work comes again.

    `ensure` makes stream and consumer where they are missing (a wiped store) and is called after
    each fault.
    """

    def __init__(
        self,
        connection: NatsConnection,
        *,
        stream: str,
        durable: str,
        ensure: Callable[[JetStreamContext], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._durable = durable
        self._ensure = ensure
        self._subscription: PullSubscription | None = None
        self._faults = 0

    async def fetch(self, batch_max: int, *, wait_seconds: float) -> list[Msg]:
        """Up to `batch_max` messages; empty when none came in `wait_seconds`, or after a fault."""
        begun = time.monotonic()
        try:
            subscription = self._subscription or await self._subscribe()
            messages = await subscription.fetch(batch_max, timeout=wait_seconds)
        except TimeoutError:
            # Nothing there; or the consumer is gone, which a fetch can't tell.
            await self._after_silence()
            if time.monotonic() - begun < wait_seconds / 2:
                await asyncio.sleep(_REFUSED_PAUSE_SECONDS)  # answered early: turned away
            return []
        except NATS_FAULTS as error:
            await self._after_fault(error)
            return []
        finally:
            raise_if_cancelled()
        self._faults = 0
        return messages

    async def _subscribe(self) -> PullSubscription:
        await self._connection.connected()
        self._connection.require()
        try:
            await self._connection.jetstream.consumer_info(self._stream, self._durable)
        except NotFoundError:
            await self._ensure(self._connection.jetstream)
        self._subscription = await self._connection.jetstream.pull_subscribe_bind(
            consumer=self._durable, stream=self._stream
        )
        return self._subscription

    async def _after_silence(self) -> None:
        if self._subscription is not None:
            try:
                self._connection.require()
                await self._subscription.consumer_info()
            except NATS_FAULTS as error:
                await self._after_fault(error)

    async def _after_fault(self, error: Exception) -> None:
        self._faults += 1
        _log.warning(
            "jetstream_fetch_failed",
            consumer=self._durable,
            error=type(error).__name__,
            description=error.description if isinstance(error, APIError) else None,
        )
        pause = min(_FAULT_PAUSE_SECONDS_MAX, 0.1 * 2 ** min(self._faults, 6))
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        await self.close()

    async def close(self) -> None:
        """Give the subscription back. A later fetch makes another."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except NATS_FAULTS as error:
                _log.debug("jetstream_unsubscribe_failed", error=type(error).__name__)
