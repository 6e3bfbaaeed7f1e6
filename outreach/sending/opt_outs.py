"""Opting out and in is told once, by a recipient, and nobody repeats it: it is committed before it is answered.

(JetStream, where webhooks are stored otherwise, may lose what it has acknowledged.)
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from outreach.internal.v1 import delivery_pb2
from outreach.sending.reporter import Reporter
from outreach.sending.stream import DeliveryStream

#: Who calls an endpoint waits some seconds for the answer: mail providers, Twilio.
COMMIT_SECONDS_MAX: Final = 2.0

#: Whether an opt-out or opt-in is committed. Not: it may be, or come to be.
Commit = Callable[[delivery_pb2.OptOut], Awaitable[bool]]


def committing(stream: DeliveryStream, reporter: Reporter) -> Commit:
    """Commits through the stream, where there is one."""

    async def commit(opt_out: delivery_pb2.OptOut) -> bool:
        if not stream.is_connected:
            return False
        batch_id = reporter.submit_opt_out(opt_out)
        try:
            async with asyncio.timeout(COMMIT_SECONDS_MAX):
                await reporter.acked_through(batch_id)
        except TimeoutError:
            return False
        return True

    return commit
