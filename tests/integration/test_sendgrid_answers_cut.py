"""Answers of which only a part arrives: what the status says still counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import TokenKey
from outreach.sending.outcomes import Answer, Answered, Divided, NotSent, Throttled
from outreach.sending.transport import HttpTransport
from outreach.vocabulary import Outcome
from services.sender_email.adapter import SendGridProvider
from tests.email_campaign_double import EmailCampaignDouble
from tests.sendgrid_parts import message


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads a request to its end, sends this, and closes the connection."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        bodies.append(await reader.readexactly(length))
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", bodies


async def _sent(reply: bytes) -> tuple[Answer, list[bytes]]:
    campaign = EmailCampaignDouble()
    messages: Sequence[delivery_pb2.ClaimedMessage] = [
        message(number, "a", "b", "c") for number in (1, 2)
    ]
    async with (
        answering(reply) as (url, bodies),
        HttpTransport(connections_max=1, request_seconds_max=60) as transport,
    ):
        key = TokenKey("a key of at least thirty-two characters")
        provider = SendGridProvider(transport, key, api_url=url, public_url="https://x.example")
        prepared = provider.prepare(campaign.content(), campaign.account(), ())
        return await provider.send(prepared, messages, lambda: None), bodies


CUT = b"Content-Length: 50\r\n\r\nshorter"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"HTTP/1.1 202 Accepted\r\n" + CUT, Outcome.ACCEPTED),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", Outcome.ACCEPTED),
        (b"HTTP/1.1 500 Error\r\n" + CUT, Outcome.UNKNOWN),
        (b"HTTP/1.1 202 Acc", Outcome.UNKNOWN),
        (b"no HTTP at all\r\n\r\n", Outcome.UNKNOWN),
        (b"", Outcome.UNKNOWN),
    ],
)
async def test_accepted_or_unknown(reply: bytes, outcome: Outcome) -> None:
    answer, bodies = await _sent(reply)
    assert isinstance(answer, Answered)
    assert [(one.number, one.outcome) for one in answer.outcomes] == [(1, outcome), (2, outcome)]
    assert len(bodies) == 1
    assert len(orjson.loads(bodies[0])["personalizations"]) == 2


async def test_refused_without_saying_whom() -> None:
    answer, _ = await _sent(b"HTTP/1.1 400 Bad\r\n" + CUT)
    assert isinstance(answer, Divided)
    assert [len(part) for part in answer.parcels] == [1, 1]


async def test_throttled_without_saying_until_when() -> None:
    answer, _ = await _sent(b"HTTP/1.1 429 Slow\r\nX-RateLimit-Reset: 99999\r\n" + CUT)
    assert answer == Throttled()


async def test_a_server_that_is_gone_is_not_sent_to() -> None:
    campaign = EmailCampaignDouble()
    async with answering(b"") as (url, _):
        pass
    async with HttpTransport(connections_max=1, request_seconds_max=60) as transport:
        key = TokenKey("a key of at least thirty-two characters")
        provider = SendGridProvider(transport, key, api_url=url, public_url="https://x.example")
        prepared = provider.prepare(campaign.content(), campaign.account(), ())
        begun: list[bool] = []
        answer = await provider.send(
            prepared, [message(1, "a", "b", "c")], lambda: begun.append(True)
        )
    assert isinstance(answer, NotSent)
    assert not begun
