"""Emails a second, all recorded, and events a second taken in: `python -m bench.email_rate [messages] [rounds]`.

Ours is everything: jobs over NATS, claims committed in PostgreSQL (fsync on), substitutions for each recipient, the
flight journal, requests of up to 1,000 recipients, reports committed, counts and change log. Beside it, in the same run
and against the same zero-delay sink, a bare aiohttp loop that makes the same bodies of 1,000 recipients, posts them and
records nothing; and one that posts bodies made beforehand: the limit of this machine's loopback.

Then the events: one `delivered` for each message, signed, 1,000 a POST, until the campaign says that it is COMPLETE:
signature, JSON, attempt ids, JetStream, reports committed. Beside it a bare aiohttp endpoint that takes the same POSTs,
checks the signature and parses the JSON, and stores nothing.

Rounds alternate, and the ratio of each round is given: the machine may be shared.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import uvloop
from aiohttp import web

from bench.campaigns import imported_email_campaign, run_to_handed_over, stack_options
from bench.events import Poster, SignedPost, WebhookSigner, delivered_events, is_signed
from bench.sink import sink
from outreach.client import OutreachClient
from outreach.local.stack import LocalStack
from outreach.v1 import campaign_pb2

RECIPIENTS_MAX = 1_000
REQUESTS_AT_ONCE = 8
POSTS_AT_ONCE = 8
HTML = (
    "<html><body><h1>Hello {{name}}</h1>"
    + "<p>Something worth reading about, in a few words more than are needed.</p>" * 40
    + "<p>In {{city}} on {{day}}.</p><p><a href='{{unsubscribe_url}}'>Unsubscribe</a></p></body></html>"
)


def bodies(messages: int) -> Iterator[bytes]:
    """What a program of one's own would post: as many substitutions and headers as ours."""
    constant = {
        "from": {"email": "campaigns@outreach.example"},
        "subject": "News for -name-",
        "content": [
            {"type": "text/plain", "value": "Hello -name-, in -city- on -day-. -unsubscribe-"},
            {"type": "text/html", "value": HTML},
        ],
    }
    for first in range(0, messages, RECIPIENTS_MAX):
        people = [
            {
                "to": [{"email": f"person.{number}@example.org"}],
                "substitutions": {
                    "-name-": f"Name{number}",
                    "-city-": f"City{number % 50}",
                    "-day-": f"Day{number % 28}",
                    "-unsubscribe-": f"https://example.org/unsubscribe/{number:083d}",
                },
                "custom_args": {"attempt_id": f"{number:067d}"},
                "headers": {"List-Unsubscribe": f"<https://example.org/unsubscribe/{number:083d}>"},
            }
            for number in range(first, min(first + RECIPIENTS_MAX, messages))
        ]
        yield orjson.dumps({"personalizations": people, **constant})


async def bare_loop(url: str, requests: Iterable[bytes], messages: int) -> float:
    """Emails a second of a loop that posts these and records nothing."""
    waiting = iter(requests)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer key"}
    connector = aiohttp.TCPConnector(limit=REQUESTS_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one_after_another() -> None:
            for body in waiting:
                async with session.post(
                    f"{url}/v3/mail/send", data=body, headers=headers
                ) as answer:
                    assert answer.status == 202
                    await answer.read()

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(REQUESTS_AT_ONCE)))
        return messages / (time.perf_counter() - began)


@asynccontextmanager
async def bare_endpoint(signer: WebhookSigner) -> AsyncIterator[str]:
    """An endpoint that checks and parses, and stores nothing; in this very process."""

    async def take(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        assert is_signed(signer, request.headers, body)
        orjson.loads(body)
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def events_taken_in(
    client: OutreachClient, campaign: campaign_pb2.Campaign, poster: Poster, posts: list[SignedPost]
) -> float:
    """Events a second, from the first POST to the commit that made the campaign COMPLETE."""
    async with asyncio.TaskGroup() as tasks:
        began = time.perf_counter()
        posting = tasks.create_task(poster.post(posts))
        async for response in client.watch_campaign(campaign.id):
            told = response.snapshot if response.HasField("snapshot") else response.changes
            if told.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE:
                break
        seconds = time.perf_counter() - began
        await posting
    return campaign.counts.total / seconds


async def main(messages: int, rounds: int) -> None:
    signer = WebhookSigner()
    prepared = [*bodies(messages)]
    async with sink() as url:
        options: Any = stack_options(url)
        settings = {
            **options.settings,
            "OUTREACH_BOOTSTRAP_SENDGRID_WEBHOOK_PUBLIC_KEY": signer.public_key,
        }
        async with (
            LocalStack(replace(options, settings=settings)) as stack,
            stack.client() as client,
            bare_endpoint(signer) as bare_url,
        ):
            print(f"{messages} emails a round, up to {RECIPIENTS_MAX} a request, one sink for all")
            print(
                f"{'round':>5} {'emails/s':>9} {'bare loop/s':>12} {'ratio':>6} {'made before/s':>14}"
                f" {'events/s':>9} {'bare endpoint/s':>16} {'ratio':>6}"
            )
            for number in range(1, rounds + 1):
                campaign = await imported_email_campaign(client, messages, HTML)
                ours = await run_to_handed_over(client, campaign, to_the_end=False)
                bare = await bare_loop(url, bodies(messages), messages)
                limit = await bare_loop(url, prepared, messages)
                posts = delivered_events(
                    stack, signer, UUID(campaign.id), messages, events_a_post=1_000
                )
                async with aiohttp.ClientSession() as session:
                    poster = Poster(session, stack.event_url, POSTS_AT_ONCE)
                    taken = await events_taken_in(client, campaign, poster, posts)
                    began = time.perf_counter()
                    await Poster(session, bare_url, POSTS_AT_ONCE).post(posts)
                    parsed = messages / (time.perf_counter() - began)
                print(
                    f"{number:>5} {ours:>9.0f} {bare:>12.0f} {ours / bare:>6.3f} {limit:>14.0f}"
                    f" {taken:>9.0f} {parsed:>16.0f} {taken / parsed:>6.3f}"
                )


if __name__ == "__main__":
    uvloop.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 100_000,
            int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        )
    )
