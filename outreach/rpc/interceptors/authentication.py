"""Who calls: an API key becomes an organisation and a role."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from outreach.errors import OutreachError
from outreach.rpc.around import (
    Around,
    AroundInterceptor,
    Context,
    Incoming,
    metadata_value,
    service_of,
)
from outreach.rpc.call import Caller, current_call
from outreach.vocabulary import Role

#: Finds the holder of a key by the SHA-256 of the key; None: not known.
CallerLookup = Callable[[bytes], Awaitable[Caller | None]]
#: Roles that may call a method (`/package.Service/Method`).
RolesAllowed = Callable[[str], Collection[Role]]

#: A key longer than this is not one of ours, and not worth hashing.
KEY_CHARACTERS_MAX = 512


class AuthenticationInterceptor(AroundInterceptor):
    """Requires `authorization: Bearer <API key>` on every call that is not of an open service.

    Answers are kept for `cache_seconds`, so a withdrawn key works for that long. Keys that are not
    known are not kept: a new one works at once, and guessing fills no memory.
    """

    def __init__(
        self,
        lookup: CallerLookup,
        *,
        roles_allowed: RolesAllowed,
        open_services: frozenset[str],
        cache_seconds: float = 30.0,
        cache_entries_max: int = 10_000,
    ) -> None:
        self._lookup = lookup
        self._roles_allowed = roles_allowed
        self._open_services = open_services
        self._cache_seconds = cache_seconds
        self._cache_entries_max = cache_entries_max
        self._cache: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def around(self, call: Incoming) -> Around:
        return self._authenticated(call.method, call.context)

    @asynccontextmanager
    async def _authenticated(self, method: str, context: Context) -> AsyncIterator[None]:
        if service_of(method) not in self._open_services:
            caller = await self._caller(bearer_token(context))
            current_call().caller = caller
            if caller.role not in self._roles_allowed(method):
                raise OutreachError(
                    "ROLE_NOT_ALLOWED",
                    f"A key with the role {caller.role.name} may not do this.",
                    metadata={"role": caller.role.name},
                )
        yield

    async def _caller(self, key: str) -> Caller:
        key_hash = hashlib.sha256(key.encode()).digest()
        now = time.monotonic()
        kept = self._cache.get(key_hash)
        if kept is not None and kept[0] > now:
            return kept[1]
        caller = await self._lookup(key_hash)
        if caller is None:
            self._cache.pop(key_hash, None)
            raise OutreachError("CREDENTIAL_INVALID", "The API key is not known.")
        self._cache[key_hash] = (now + self._cache_seconds, caller)
        self._cache.move_to_end(key_hash)
        while len(self._cache) > self._cache_entries_max:
            self._cache.popitem(last=False)
        return caller


def bearer_token(context: Context) -> str:
    """The token of the `authorization` metadata; CREDENTIAL_MISSING without one."""
    value = metadata_value(context, "authorization")
    if not value:
        raise OutreachError(
            "CREDENTIAL_MISSING", "Send the metadata `authorization: Bearer <API key>`."
        )
    scheme, _, token = value.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > KEY_CHARACTERS_MAX:
        raise OutreachError(
            "CREDENTIAL_INVALID", "The metadata `authorization` has to be `Bearer <API key>`."
        )
    return token
