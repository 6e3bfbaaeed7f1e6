"""A deadline for calls whose answer is one message and whose caller set none."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from outreach.errors import OutreachError
from outreach.rpc.around import Around, AroundInterceptor, Context, Incoming


class DeadlineInterceptor(AroundInterceptor):
    """Ends unary calls after `default_seconds`, or their method's limit, or the caller's deadline.

    Streams have no deadline of ours: keepalive notices a dead peer, and their owners bound them.
    """

    def __init__(
        self,
        *,
        default_seconds: float = 30.0,
        method_seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._default_seconds = default_seconds
        self._method_seconds = method_seconds

    def around(self, call: Incoming) -> Around:
        streams = call.handler.request_streaming or call.handler.response_streaming
        seconds = self._method_seconds.get(call.method, self._default_seconds)
        return self._limited(None if streams else seconds, call.context)

    @asynccontextmanager
    async def _limited(self, seconds: float | None, context: Context) -> AsyncIterator[None]:
        if seconds is None:
            yield
            return
        remaining: float | None = context.time_remaining()
        limit_seconds = seconds if remaining is None else min(seconds, remaining)
        try:
            async with asyncio.timeout(limit_seconds) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise  # not ours: a time-out inside the handler
            raise OutreachError(
                "DEADLINE_EXCEEDED",
                f"The call took longer than {limit_seconds:.1f} s. It may have been done: "
                "call again with the same request_id.",
            ) from None
