"""Calls that change a campaign, made until they are answered, and written down.

A caller whose call got no answer asks again with the same `request_id`, as `campaign.proto` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from chaos.history import Acted, ActionKind, History
from outreach.client import CallError
from outreach.client.connection import new_request_id

#: A guard against a hang; no fault lasts so long.
_GIVE_UP_SECONDS = 180.0
_PAUSE_SECONDS = 0.5
_NO_ANSWER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}

Answer = TypeVar("Answer")


async def answered(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The call's answer, asked for until there is one.

    Raises:
        CallError: the service refused it, or gave no answer for minutes.
    """
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            return await call()
        except CallError as error:
            if error.code not in _NO_ANSWER or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


async def acted(
    history: History,
    kind: ActionKind,
    campaign_id: str,
    call: Callable[[str], Awaitable[Answer]],
    run_of: Callable[[Answer], int | None] = lambda _: None,
) -> Answer | None:
    """Make a call that changes a campaign; None when it was refused or never answered.

    Args:
        history: gets the action.
        kind: of the action.
        campaign_id: whose.
        call: is given the request id.
        run_of: the run that an answer says it began.
    """
    begun_time = time.time()
    request_id = new_request_id()
    try:
        answer = await answered(lambda: call(request_id))
    except CallError as error:
        refused = error.code not in _NO_ANSWER
        history.actions.append(
            Acted(
                kind=kind,
                campaign_id=campaign_id,
                begun_time=begun_time,
                answered_time=time.time() if refused else None,
                ok=False if refused else None,
                reason=error.reason,
            )
        )
        return None
    except asyncio.CancelledError:
        history.actions.append(
            Acted(
                kind=kind,
                campaign_id=campaign_id,
                begun_time=begun_time,
                answered_time=None,
                ok=None,
            )
        )
        raise
    history.actions.append(
        Acted(
            kind=kind,
            campaign_id=campaign_id,
            begun_time=begun_time,
            answered_time=time.time(),
            ok=True,
            run=run_of(answer),
        )
    )
    return answer
