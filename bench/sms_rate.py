"""SMS messages a second, all recorded: `python -m bench.sms_rate [messages] [rounds]`.

Ours is everything: jobs over NATS, claims committed in PostgreSQL (fsync on), rendering, the flight journal, the HTTP
request, reports committed, counts and change log. Beside it, in the same run and against the same zero-delay sink, the
loop people write instead: Twilio's own async SDK, 64 requests at once, nothing recorded; and bare aiohttp, the floor
of any Python sender. Rounds alternate, and the ratio of each round is given: the machine may be shared.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import uvloop
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from bench.campaigns import imported_campaign, run_to_handed_over, stack_options
from bench.sink import sink
from outreach.local.stack import LocalStack

CONCURRENCY = 64
_ACCOUNT = "AC" + "0" * 32
_SERVICE = "MG" + "0" * 32


class _ToSink(AsyncTwilioHttpClient):  # type: ignore[misc] # the package has no types
    """Twilio's client as it is, but that it calls the sink."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def request(self, method: str, url: str, *arguments: Any, **more: Any) -> Response:
        return await super().request(
            method, url.replace("https://api.twilio.com", self._url), *arguments, **more
        )


async def _spread(messages: int, send: Callable[[int], Awaitable[None]]) -> float:
    numbers = iter(range(messages))

    async def one_after_another() -> None:
        for number in numbers:
            await send(number)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(CONCURRENCY)))
    return messages / (time.perf_counter() - began)


async def bare_sdk(url: str, messages: int) -> float:
    transport = _ToSink(url)
    client = Client(_ACCOUNT, "token", http_client=transport)

    async def send(number: int) -> None:
        await client.messages.create_async(
            to=f"+1500{number:07d}",
            body=f"Hello Name{number}, your parcel waits.",
            messaging_service_sid=_SERVICE,
            status_callback="https://example.com/status/0123456789",
        )

    try:
        return await _spread(messages, send)
    finally:
        await transport.close()


async def bare_aiohttp(url: str, messages: int) -> float:
    path = f"{url}/2010-04-01/Accounts/{_ACCOUNT}/Messages.json"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(number: int) -> None:
            form = {
                "To": f"+1500{number:07d}",
                "Body": f"Hello Name{number}, your parcel waits.",
                "MessagingServiceSid": _SERVICE,
                "StatusCallback": "https://example.com/status/0123456789",
            }
            async with session.post(path, data=urlencode(form), headers=headers) as answer:
                json.loads(await answer.read())

        return await _spread(messages, send)


async def main(messages: int, rounds: int) -> None:
    async with sink() as url, LocalStack(stack_options(url)) as stack, stack.client() as client:
        print(f"{messages} messages a round, {CONCURRENCY} at once, one zero-delay sink for all")
        print(
            f"{'round':>5} {'outreach/s':>11} {'SDK loop/s':>11} {'aiohttp/s':>10} {'ours/SDK':>9}"
        )
        ratios = []
        for number in range(1, rounds + 1):
            campaign = await imported_campaign(client, messages)
            ours = await run_to_handed_over(client, campaign)
            sdk = await bare_sdk(url, messages)
            floor = await bare_aiohttp(url, messages)
            ratios.append(ours / sdk)
            print(f"{number:>5} {ours:>11.0f} {sdk:>11.0f} {floor:>10.0f} {ours / sdk:>9.2f}")
        print(f"ratio to the SDK loop: median {sorted(ratios)[len(ratios) // 2]:.2f} (aim: 0.8)")


if __name__ == "__main__":
    uvloop.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 20_000,
            int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        )
    )
