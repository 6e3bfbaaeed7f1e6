"""SendGrid's events taken in by one email sender: `python -m bench.event_intake [events] [a post]`.

First the endpoint: signed posts over HTTP, verified, and stored in JetStream before they are answered. Then the
forwarder: the stored entries interpreted, reported over the stream, acknowledged. The campaign service is a peer in a
process of its own that acknowledges at once, so that what is measured is the sender's part: CPU time an event, and how
many a second that allows on one core. The figures of the first stage hold the cost of posting too (a few per cent).
"""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import grpc.aio
import orjson
import uvloop

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.jetstream.connection import NatsConnection, nats_connection
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import Publisher
from outreach.jetstream.topology import INBOX_STREAM, ensure_topology, inbox_subject
from outreach.local.embedded import EmbeddedNats
from outreach.local.ports import free_port
from outreach.logs import configure_logs
from outreach.sending.attempt_token import TokenKey
from outreach.sending.contents import Accounts
from outreach.sending.endpoint import listening
from outreach.sending.inbox import Forwarder, Inbox
from outreach.sending.journal import Journal
from outreach.sending.opt_outs import committing
from outreach.sending.reporter import Reporter
from outreach.sending.stream import DeliveryStream
from outreach.sending.transport import HttpTransport
from outreach.vocabulary import Channel
from services.sandbox.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookKey
from services.sandbox.webhooks import WebhookClient
from services.sender_email.events import interpret
from services.sender_email.sendgrid_api import SendGridApi
from services.sender_email.suppressions import SuppressionQueue
from services.sender_email.webhook_keys import WebhookKeys
from services.sender_email.webhooks import Webhooks

POSTS_AT_ONCE = 4
ORGANISATION, CAMPAIGN = uuid4(), uuid4()
KINDS = (
    "processed",
    "delivered",
    "processed",
    "deferred",
    "delivered",
    "open",
    "processed",
    "bounce",
)


class Peer(delivery_pb2_grpc.DeliveryServiceServicer):
    """Acknowledges every batch."""

    def __init__(self, public_key: str) -> None:
        self._public_key = public_key

    async def Deliver(  # noqa: N802 - the RPC's name
        self,
        request_iterator: AsyncIterator[delivery_pb2.DeliverRequest],
        context: Any,  # noqa: ARG002 - gRPC gives it
    ) -> AsyncIterator[delivery_pb2.DeliverResponse]:
        await anext(request_iterator)
        yield delivery_pb2.DeliverResponse(welcome=delivery_pb2.Welcome(reports_max=500))
        async for request in request_iterator:
            ack = delivery_pb2.ReportAck(sequence=request.reports.sequence)
            yield delivery_pb2.DeliverResponse(ack=ack)

    async def GetProviderAccount(  # noqa: N802 - the RPC's name
        self,
        request: delivery_pb2.GetProviderAccountRequest,  # noqa: ARG002 - gRPC gives it
        context: Any,  # noqa: ARG002 - gRPC gives it
    ) -> delivery_pb2.ProviderAccount:
        account = delivery_pb2.SendGridAccount(webhook_public_key=self._public_key)
        return delivery_pb2.ProviderAccount(sendgrid=account)


def serve_peer(ready: Connection, public_key: str) -> None:
    async def serve() -> None:
        server = grpc.aio.server()
        peer = Peer(public_key)  # type: ignore[abstract] # nothing else is called
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(peer, server)
        ready.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def posts(key: TokenKey, events: int, a_post: int) -> list[bytes]:
    """Bodies as SendGrid makes them; each message has two events, in different posts."""
    now, messages = int(time.time()) - 60, events // 2
    bodies, made = [], []
    for at in range(events):
        kind, number = KINDS[at % len(KINDS)], at % messages + 1
        event = {
            "email": f"recipient-{number}@mail.example.com",
            "timestamp": now,
            "smtp-id": f"<14c5d75ce93.dfd.{number}@geopod-ismtpd-1>",
            "event": kind,
            "sg_event_id": f"{kind}-{at}-50485195-14c5d75ce93dfd64b469-{number}",
            "sg_message_id": f"14c5d75ce93dfd64b469fi.recvd-5f54b5d587-pczjm-1-67BADEEA-6.{number}",
            "attempt_id": key.sign_attempt(ORGANISATION.bytes, CAMPAIGN.bytes, number, 1),
        }
        if kind == "bounce":
            event |= {
                "type": "bounce",
                "bounce_classification": "Invalid Address",
                "status": "5.1.1",
                "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
            }
        made.append(orjson.dumps(event))
        if len(made) == a_post or at == events - 1:
            bodies.append(b"[" + b",\r\n".join(made) + b"]\r\n")
            made = []
    return bodies


async def post_all(url: str, signing: WebhookKey, bodies: list[bytes]) -> None:
    client, left = WebhookClient(), iter(bodies)
    timestamp = str(int(time.time()))
    signed = {body: signing.sign(timestamp, body) for body in bodies}

    async def post() -> None:
        for body in left:
            headers = f"{SIGNATURE_HEADER}: {signed[body]}\r\n{TIMESTAMP_HEADER}: {timestamp}\r\n"
            status = await client.post(
                url,
                headers,
                body,
                connect_timeout_seconds=5,
                read_timeout_seconds=10,
                content_type="application/json",
            )
            assert status == 204, status

    await _timed("endpoint", bodies, asyncio.gather(*(post() for _ in range(POSTS_AT_ONCE))))
    client.close()


async def _timed(stage: str, bodies: list[bytes], work: Any) -> None:
    events = sum(body.count(b'"sg_event_id"') for body in bodies)
    began, cpu = time.perf_counter(), time.process_time()
    await work
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{stage:>10}: {used / events * 1e6:6.2f} µs CPU an event, {events / seconds:9,.0f} events/s"
        f" ({events} events in {len(bodies)} posts)"
    )


async def _ensure(jetstream: Any) -> None:
    await ensure_topology(jetstream, (Channel.EMAIL,))


async def none_left(nats: NatsConnection) -> None:
    info = await nats.jetstream.stream_info(INBOX_STREAM)
    while info.state.messages:
        await asyncio.sleep(0.005)
        info = await nats.jetstream.stream_info(INBOX_STREAM)


async def measure(
    peer: str,
    nats_url: str,
    journal_dir: Path,
    bodies: list[bytes],
    key: TokenKey,
    signing: WebhookKey,
) -> None:
    journal = Journal(journal_dir)
    async with (
        nats_connection(nats_url, name="bench") as nats,
        grpc.aio.insecure_channel(peer) as channel,
        HttpTransport(connections_max=4, request_seconds_max=5) as http,
        asyncio.TaskGroup() as tasks,
    ):
        await nats.connected()
        await _ensure(nats.jetstream)
        accounts = Accounts(channel, (), Channel.EMAIL)
        publisher = Publisher(nats)
        inbox = Inbox(publisher, inbox_subject(Channel.EMAIL))
        reporter = Reporter(journal, Channel.EMAIL)
        stream = DeliveryStream(channel, (), Channel.EMAIL, journal, reporter)
        webhooks = Webhooks(
            commit=committing(stream, reporter),
            inbox=inbox,
            suppressions=SuppressionQueue(publisher),
            keys=WebhookKeys(accounts, SendGridApi(http, "http://127.0.0.1:9")),
            token_key=key,
            faults=list,
        )
        storing = tasks.create_task(inbox.run())
        port = free_port()
        async with listening(webhooks.handle, "127.0.0.1", port):
            url = f"http://127.0.0.1:{port}/sendgrid/events/{key.sign_organisation(ORGANISATION)}"
            await post_all(url, signing, bodies)
        consumer = PullConsumer(nats, stream=INBOX_STREAM, durable="email-inbox", ensure=_ensure)
        forwarder = Forwarder(consumer, stream, reporter, interpret)
        running = [tasks.create_task(part()) for part in (stream.run, reporter.run)]
        await stream.connected()
        running += [storing, tasks.create_task(forwarder.run())]
        await _timed("forwarder", bodies, none_left(nats))
        for task in running:
            task.cancel()
    journal.close()


async def main(events: int, a_post: int) -> None:
    configure_logs(level="error", service="bench")
    key, signing = TokenKey("the key of the benchmark, 32 characters"), WebhookKey(None)
    context = multiprocessing.get_context("spawn")
    ready, theirs = context.Pipe()
    peer = context.Process(target=serve_peer, args=(theirs, signing.public_key), daemon=True)
    peer.start()
    try:
        address = f"127.0.0.1:{ready.recv()}"
        with TemporaryDirectory() as name:
            directory = Path(name)
            async with EmbeddedNats(directory / "nats") as server:
                bodies = posts(key, events, a_post)
                await measure(address, server.url, directory, bodies, key, signing)
    finally:
        peer.terminate()
        peer.join()


if __name__ == "__main__":
    uvloop.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 200_000,
            int(sys.argv[2]) if len(sys.argv) > 2 else 1_000,
        )
    )
