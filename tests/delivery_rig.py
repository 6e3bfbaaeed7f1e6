"""The delivery side of the campaign service for tests: its parts over a pool, and its stream over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.internal.v1 import delivery_pb2_grpc
from outreach.postgres.pool import create_pool
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.interceptors.internal_token import InternalTokenInterceptor
from outreach.rpc.server import OPEN_SERVICES, RpcServer, Service
from outreach.secrets import Secrets
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.delivery.changes import QUERIES
from services.campaign.delivery.claims import Claimed, Claims
from services.campaign.delivery.content import Contents
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.reports import Reports
from services.campaign.delivery.servicer import DeliveryServicer
from tests.campaign_data import RECIPIENT_KEY, Running, Wakes, statuses

TOKEN = "the internal token of the tests"
SECRET_KEY = "a secret key of the tests, 32 characters"
READ_SECONDS_MAX = 60.0


class Delivery:
    """What the stream's servicer uses, over one pool."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.wakes = Wakes()
        self.claims = Claims(pool, self.wakes)
        self.reports = Reports(
            pool, self.wakes, recipient_key=RECIPIENT_KEY, look_up_after_seconds=0.0
        )
        self.look_ups = LookUps(pool, look_up_after_seconds=0.0)
        self.instance = uuid4()

    async def claim(
        self, campaign: Running, limit: int, *, instance: UUID | None = None, run: int = 1
    ) -> Claimed:
        return await self.claims.claim(
            instance or self.instance, campaign.campaign_id, run, 1, campaign.contacts, limit
        )

    async def report(self, campaign: Running, *reports: pb.Report) -> None:
        part = pb.CampaignReports(campaign_id=str(campaign.campaign_id), reports=reports)
        await self.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])

    async def fail(self, campaign: Running, reason: FailureReason, run: int = 1) -> None:
        failure = pb.CampaignFailureReport(
            campaign_id=str(campaign.campaign_id),
            run=run,
            failure_reason=int(reason),  # type: ignore[arg-type] # same numbers, held by a test
            provider_code="403",
        )
        await self.reports.apply([pb.ReportBatch(sequence=1, campaign_failures=[failure])])

    async def opt(self, *opt_outs: pb.OptOut) -> None:
        await self.reports.apply([pb.ReportBatch(sequence=1, opt_outs=opt_outs)])

    async def prune_log(self) -> int:
        """Rows of the change log that housekeeping takes away, one day after a campaign's end."""
        before = await self.pool.fetchval("SELECT count(*) FROM change_log")
        for row in await self.pool.fetch(QUERIES["campaigns_with_old_log"], 24 * 3600.0):
            await self.pool.execute(QUERIES["prune_log"], row["id"], row["revision"])
        after: int = await self.pool.fetchval("SELECT count(*) FROM change_log")
        return int(before - after)

    async def end(
        self, instance: UUID, campaign: Running, begun: list[tuple[int, int]] | None = None
    ) -> None:
        part = pb.BegunAttempts(
            campaign_id=str(campaign.campaign_id),
            numbers=[number for number, _ in begun or []],
            attempts=[attempt for _, attempt in begun or []],
        )
        ended = pb.EndedInstance(instance_id=str(instance), begun=[part])
        await self.reports.apply([pb.ReportBatch(sequence=1, ended_instances=[ended])])


def report(number: int, outcome: "pb.Outcome.ValueType", **more: Any) -> pb.Report:
    return pb.Report(number=number, attempt=more.pop("attempt", 1), outcome=outcome, **more)


def accepted(number: int, **more: Any) -> pb.Report:
    return report(
        number, pb.OUTCOME_ACCEPTED, provider_message_id=f"SM{number}", segments=1, **more
    )


class Sender:
    """One stream, as a sender sees it."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.instance_id = uuid4()
        self.sequence = 0
        self._claims = 0

    async def hello(self) -> pb.Welcome:
        await self.write(hello=pb.Hello(instance_id=str(self.instance_id)))
        return (await self.read("welcome")).welcome

    async def write(self, **request: Any) -> None:
        await self.call.write(pb.DeliverRequest(**request))

    async def read(self, kind: str) -> pb.DeliverResponse:
        """The next response, which is of this kind."""
        response = await self.read_any()
        assert response is not grpc.aio.EOF
        assert response.WhichOneof("response") == kind
        assert isinstance(response, pb.DeliverResponse)
        return response

    async def read_any(self) -> Any:
        async with asyncio.timeout(READ_SECONDS_MAX):
            return await self.call.read()

    async def acked(self, sequence: int) -> None:
        """Read until so much is acknowledged; acknowledgements only grow."""
        known = 0
        while known < sequence:
            ack = (await self.read("ack")).ack.sequence
            assert known < ack <= self.sequence
            known = ack

    async def ask_claim(self, campaign: Running, limit: int = 10, **more: Any) -> int:
        self._claims += 1
        request = {
            "campaign_id": str(campaign.campaign_id),
            "run": 1,
            "first": 1,
            "last": campaign.contacts,
            "limit": limit,
            **more,
        }
        await self.write(claim=pb.ClaimRequest(claim_id=self._claims, **request))
        return self._claims

    async def claim(self, campaign: Running, limit: int = 10) -> pb.ClaimResult:
        claim_id = await self.ask_claim(campaign, limit)
        result = (await self.read("claim")).claim
        assert result.claim_id == claim_id
        return result

    async def report(
        self, campaign: Running, outcome: "pb.Outcome.ValueType", *numbers: int
    ) -> None:
        reports = [pb.Report(number=number, attempt=1, outcome=outcome) for number in numbers]
        await self.batch(
            campaigns=[pb.CampaignReports(campaign_id=str(campaign.campaign_id), reports=reports)]
        )

    async def batch(self, **content: Any) -> None:
        self.sequence += 1
        content = {"sequence": self.sequence, **content}
        await self.write(reports=pb.ReportBatch(**content))

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """The status, after whatever is still answered."""
        async with asyncio.timeout(READ_SECONDS_MAX):
            try:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError:
                pass
            return await self.call.code(), await self.call.details() or ""


class Rig:
    """The server, its parts, and senders."""

    def __init__(self, pool: Any, servicer: DeliveryServicer, channel: grpc.aio.Channel) -> None:
        self.pool = pool
        self.servicer = servicer
        self.stub = delivery_pb2_grpc.DeliveryServiceStub(channel)
        self.metadata = bearer(TOKEN)
        self.senders: list[Sender] = []

    def open(self) -> Sender:
        """A stream without a Hello."""
        sender = Sender(self.stub.Deliver(metadata=self.metadata))
        self.senders.append(sender)
        return sender

    async def sender(self) -> Sender:
        sender = self.open()
        await sender.hello()
        return sender

    async def statuses(self, campaign: Running) -> dict[int, MessageStatus]:
        return await statuses(self.pool, campaign.campaign_id)


@asynccontextmanager
async def delivery_rig(dsn: str, **servicer: float) -> AsyncIterator[Rig]:
    pool = await create_pool(dsn, application_name="tests", connections_max=12)
    served = DeliveryServicer(
        claims=Claims(pool, Wakes()),
        reports=Reports(pool, Wakes(), recipient_key=RECIPIENT_KEY, look_up_after_seconds=0.0),
        look_ups=LookUps(pool, look_up_after_seconds=0.0),
        contents=Contents(pool, Secrets(SECRET_KEY, [])),
        send_window_seconds=7.5,
        **servicer,
    )
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        services=[
            Service(
                pb.DESCRIPTOR.services_by_name["DeliveryService"].full_name,
                lambda server: delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(
                    served, server
                ),
            )
        ],
        authentication=InternalTokenInterceptor(TOKEN, open_services=OPEN_SERVICES),
    )
    channel = create_channel(f"127.0.0.1:{await server.start()}")
    rig = Rig(pool, served, channel)
    try:
        yield rig
    finally:
        for sender in rig.senders:
            sender.call.cancel()
        await channel.close()
        await server.drain(end_streams=served.drain, grace_seconds=1)
        pool.terminate()
