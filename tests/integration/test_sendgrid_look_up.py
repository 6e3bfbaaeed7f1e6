"""Email Logs know recipients, not attempts: only the email that carries our id is evidence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiohttp import web
from multidict import CIMultiDict

from outreach.internal.v1 import delivery_pb2
from outreach.local.ports import free_port
from outreach.sending.endpoint import listening
from outreach.sending.outcomes import AttemptOutcome
from outreach.sending.transport import HttpTransport
from outreach.vocabulary import Outcome
from services.sender_email.look_up import LookUp

OURS = "ours"
ANOTHERS = "anothers"


async def _look_up(emails: dict[str, str | int]) -> AttemptOutcome | None:
    """Of one recipient; `emails`: the attempt id of each, or the status that is answered instead."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        resource = request.path.removeprefix("/v3/")
        if resource == "messages":
            return web.Response(status=403)
        if request.method == "POST":
            return web.json_response({"messages": [{"sg_message_id": name} for name in emails]})
        said = emails[resource.removeprefix("logs/")]
        if isinstance(said, int):
            return web.Response(status=said)
        events = [{"event": "delivered"}]
        return web.json_response({"custom_args": {"attempt_id": said}, "events": events})

    message = delivery_pb2.ClaimedMessage(number=7, attempt=2, recipient="somebody@example.com")
    attempt = delivery_pb2.UnknownAttempt(message=message)
    attempt.claim_time.FromDatetime(datetime.now(UTC))
    port = free_port()
    async with (
        listening(handle, "127.0.0.1", port),
        HttpTransport(connections_max=1, request_seconds_max=60) as transport,
    ):
        look_up = LookUp(transport, f"http://127.0.0.1:{port}", CIMultiDict())
        return await look_up.find(attempt, OURS)


@pytest.mark.parametrize("emails", [{}, {"m1": ANOTHERS}, {"m1": ANOTHERS, "m2": ANOTHERS}])
async def test_another_email_to_the_recipient_is_no_evidence(emails: dict[str, str | int]) -> None:
    assert await _look_up(emails) == AttemptOutcome(7, 2, Outcome.NOT_FOUND)


async def test_the_one_with_our_id_is() -> None:
    found = await _look_up({"m1": ANOTHERS, "m2": OURS, "m3": ANOTHERS})
    assert found == AttemptOutcome(7, 2, Outcome.DELIVERED, "m2")


async def test_where_one_can_not_be_read_nothing_is_said() -> None:
    assert await _look_up({"m1": ANOTHERS, "m2": 429}) is None
