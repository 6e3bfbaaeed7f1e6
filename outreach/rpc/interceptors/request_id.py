"""Names every call: the caller's `x-request-id`, or one of ours. It goes back with the answer."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from uuid_utils.compat import uuid7

from outreach.rpc.around import Around, AroundInterceptor, Context, Incoming, metadata_value
from outreach.rpc.call import Call, begin_call
from outreach.rpc.errors import REQUEST_ID_KEY

# What is taken over goes into logs: nothing but the characters of ids, so nobody forges a line.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class RequestIdInterceptor(AroundInterceptor):
    """The outermost: begins the `Call` that the others fill."""

    def around(self, call: Incoming) -> Around:
        return self._named(call.method, call.context)

    @asynccontextmanager
    async def _named(self, method: str, context: Context) -> AsyncIterator[None]:
        given = metadata_value(context, REQUEST_ID_KEY) or ""
        request_id = given if _ACCEPTABLE.fullmatch(given) else str(uuid7())
        begin_call(Call(method=method, request_id=request_id))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        yield
