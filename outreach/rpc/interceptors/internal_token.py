"""The services among themselves: one shared token."""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from outreach.errors import OutreachError
from outreach.rpc.around import Around, AroundInterceptor, Context, Incoming, service_of
from outreach.rpc.interceptors.authentication import bearer_token


class InternalTokenInterceptor(AroundInterceptor):
    """Requires `authorization: Bearer <internal token>`, compared in constant time."""

    def __init__(self, token: str, *, open_services: frozenset[str]) -> None:
        self._token = token.encode()
        self._open_services = open_services

    def around(self, call: Incoming) -> Around:
        return self._checked(call.context, call.method)

    @asynccontextmanager
    async def _checked(self, context: Context, method: str) -> AsyncIterator[None]:
        if service_of(method) not in self._open_services and not hmac.compare_digest(
            bearer_token(context).encode(), self._token
        ):
            raise OutreachError("CREDENTIAL_INVALID", "The internal token is not the right one.")
        yield
