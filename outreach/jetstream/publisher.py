"""Publish to JetStream and know that it was stored.

nats-py's own `publish_async` swallows server errors and can hang; here every publish awaits its acknowledgement, with
a bound on how many wait and a time-out each.
"""

import asyncio

from outreach.cancellation import raise_if_cancelled
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection


class NotStored(Exception):
    """JetStream did not confirm the message; it may be stored or not. Publish again with the same message id."""


class Publisher:
    """Awaited publishes.

    `pending_max`: publishes that wait at once; more wait for their turn. `attempts_max` tries share the message id, so
    the server's duplicate window (120 s) keeps one.
    """

    def __init__(
        self,
        connection: NatsConnection,
        *,
        pending_max: int = 64,
        ack_seconds_max: float = 2.0,
        attempts_max: int = 2,
    ) -> None:
        self._connection = connection
        self._pending = asyncio.Semaphore(pending_max)
        self._ack_seconds_max = ack_seconds_max
        self._attempts_max = attempts_max

    async def publish(self, subject: str, payload: bytes, *, message_id: str) -> None:
        """Store one message; returns when JetStream has acknowledged it, raises NotStored when it has not."""
        async with self._pending:
            for attempt in range(1, self._attempts_max + 1):
                try:
                    self._connection.require()
                    await self._connection.jetstream.publish(
                        subject,
                        payload,
                        timeout=self._ack_seconds_max,
                        headers={"Nats-Msg-Id": message_id},
                    )
                except NATS_FAULTS as error:
                    raise_if_cancelled()
                    if attempt == self._attempts_max:
                        raise NotStored(type(error).__name__) from error
                else:
                    return
