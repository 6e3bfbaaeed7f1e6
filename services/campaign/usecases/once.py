"""A request is done once: its transaction, and the answer kept for when it is repeated."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from outreach.errors import OutreachError
from services.campaign.store import Connection, Pool
from services.campaign.store.requests import (
    KeptAnswer,
    RequestKey,
    begin_request,
    finish_request,
    kept_answer,
)

Answer = TypeVar("Answer", bound=Message)


class _RolledBackError(Exception):
    """Ends the transaction of a call that only validates."""


class Once:
    """Runs use cases, each in one transaction together with its entry in the request log.

    Idempotent by (organisation, request id): a repeated request gets the kept answer, also while the
    first is still being done (it waits); with other content it is refused with REQUEST_ID_REUSED. A
    refused request keeps nothing and is decided anew.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __call__(
        self,
        key: RequestKey | None,
        answer_type: type[Answer],
        do: Callable[[Connection], Awaitable[Answer]],
        *,
        validate_only: bool = False,
    ) -> Answer:
        """The answer of `do`, committed; or the kept one. `validate_only`: nothing is committed."""
        if validate_only:
            return await self._validated(do)
        async with self._pool.acquire() as connection, connection.transaction():
            if key is None:
                return await do(connection)
            kept = await begin_request(connection, key)
            if kept is not None:
                return _answer_of(kept, key, answer_type)
            answer = await do(connection)
            await finish_request(connection, key, answer.SerializeToString())
            return answer

    async def kept(self, key: RequestKey | None, answer_type: type[Answer]) -> Answer | None:
        """The answer when the request was done before; for what is not one transaction.

        REQUEST_ID_REUSED.
        """
        if key is None:
            return None
        async with self._pool.acquire() as connection:
            found = await kept_answer(connection, key)
        return None if found is None else _answer_of(found, key, answer_type)

    async def _validated(self, do: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        answer: Answer | None = None
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                answer = await do(connection)
                raise _RolledBackError
        except _RolledBackError:
            assert answer is not None
            return answer


def _answer_of(kept: KeptAnswer, key: RequestKey, answer_type: type[Answer]) -> Answer:
    if (kept.method, kept.hash) != (key.method, key.hash):
        raise OutreachError(
            "REQUEST_ID_REUSED",
            "This request_id was used for another request; make a new one.",
            metadata={"method": kept.method},
        )
    return answer_type.FromString(kept.response)
