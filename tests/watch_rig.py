"""WatchService on a port of its own, over a real PostgreSQL and a real NATS, and a client that checks what it hears."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.jetstream.connection import nats_connection
from outreach.permissions import CAMPAIGN_ROLES
from outreach.postgres.pool import create_pool
from outreach.rpc.call import Caller
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.errors import from_status
from outreach.rpc.interceptors.authentication import AuthenticationInterceptor
from outreach.rpc.server import OPEN_SERVICES, RpcServer, Service
from outreach.tokens import TokenSigner
from outreach.v1 import campaign_pb2, watch_pb2, watch_pb2_grpc
from outreach.vocabulary import MessageStatus, Role
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.reports import Reports
from services.campaign.wakeups import NatsWakeups
from services.campaign.watch.hub import WatchHub
from services.campaign.watch.servicer import WatchServicer, add_to
from tests.campaign_data import RECIPIENT_KEY, Running, running_campaign

READ_SECONDS_MAX = 60.0


@dataclass
class Watch:
    """One watcher of a campaign. Whatever it reads is checked against what it has been told so far."""

    call: Any
    snapshot: campaign_pb2.Campaign | None = None
    revision: int = 0
    token: str = ""
    heartbeats: int = 0
    counts: campaign_pb2.StatusCounts | None = None
    status: int = 0
    #: (revision, number, status, failure reason, attempt), in the order told.
    history: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    responses: int = 0

    async def read(self) -> watch_pb2.WatchCampaignResponse:
        """The next response; the OutreachError of the stream's end."""
        response = await read(self.call)
        assert isinstance(response, watch_pb2.WatchCampaignResponse)
        self.responses += 1
        kind = response.WhichOneof("event")
        assert response.revision >= self.revision
        assert response.resume_token
        if kind == "snapshot":
            assert self.responses == 1, "a snapshot comes first or never"
            assert response.snapshot.revision == response.revision
            self.snapshot = response.snapshot
            self.counts, self.status = response.snapshot.counts, response.snapshot.status
        elif kind == "heartbeat":
            self.heartbeats += 1
        else:
            told = [
                (each.revision, each.number, each.status, each.failure_reason, each.attempt)
                for each in response.changes.messages
            ]
            revisions = [each[0] for each in told]
            assert revisions == sorted(revisions)
            assert all(self.revision < revision <= response.revision for revision in revisions)
            self.history += told
            self.counts, self.status = response.changes.counts, response.changes.status
            assert response.changes.HasField("commit_time")
        self.revision, self.token = response.revision, response.resume_token
        return response

    async def read_through(self, revision: int) -> None:
        """Read until everything up to `revision` has been told."""
        while self.revision < revision:
            await self.read()


async def read(call: Any) -> Any:
    """The next response; the OutreachError of the stream's end."""
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            response = await call.read()
    except grpc.aio.AioRpcError as error:
        raise from_status(error) from error
    assert response is not grpc.aio.EOF, "a watch never ends with OK"
    return response


def statuses_after(watch: Watch, contacts: int) -> dict[int, MessageStatus]:
    """The messages' states by the history, from a start at which all were queued."""
    states = dict.fromkeys(range(1, contacts + 1), MessageStatus.QUEUED)
    for _, number, status, _, _ in watch.history:
        states[number] = MessageStatus(status)
    return states


def assert_counts(watch: Watch, contacts: int) -> None:
    """The counts told last are those of the messages told so far: no commit was told by half."""
    assert watch.counts is not None
    by_status = Counter(statuses_after(watch, contacts).values())
    told = {
        status: getattr(watch.counts, status.name.lower())
        for status in MessageStatus
        if getattr(watch.counts, status.name.lower())
    }
    assert told == dict(by_status)
    assert watch.counts.total == contacts


class WatchRig:
    """The server, and the writers that make commits."""

    def __init__(self, pool: Any, hub: WatchHub, servicer: WatchServicer, wakeups: Any) -> None:
        self.pool = pool
        self.hub = hub
        self.servicer = servicer
        self.claims = Claims(pool, wakeups)
        self.reports = Reports(
            pool, wakeups, recipient_key=RECIPIENT_KEY, look_up_after_seconds=60.0
        )
        self.stub: Any = None
        self._callers: dict[bytes, Caller] = {}
        self._calls: list[Any] = []
        self.instance_id = uuid4()

    async def lookup(self, key_hash: bytes) -> Caller | None:
        return self._callers.get(key_hash)

    def metadata(self, organisation_id: UUID) -> tuple[tuple[str, str], ...]:
        """Of a caller of this organisation."""
        key = f"key of {organisation_id}"
        caller = Caller(organisation_id, Role.CAMPAIGNER, "tests")
        self._callers[sha256(key.encode()).digest()] = caller
        return bearer(key)

    def watch(
        self,
        campaign: Running,
        *,
        token: str = "",
        organisation_id: UUID | None = None,
        **fields: Any,
    ) -> Watch:
        """A new watcher, with messages unless said otherwise."""
        request = watch_pb2.WatchCampaignRequest(
            **{
                "campaign_id": str(campaign.campaign_id),
                "resume_token": token,
                "include_messages": True,
                **fields,
            }
        )
        caller = organisation_id or campaign.organisation_id
        call = self.stub.WatchCampaign(request, metadata=self.metadata(caller))
        self._calls.append(call)
        return Watch(call)

    def watch_all(self, organisation_id: UUID, **fields: Any) -> Any:
        """A call that watches the organisation's running campaigns."""
        call = self.stub.WatchCampaigns(
            watch_pb2.WatchCampaignsRequest(**fields), metadata=self.metadata(organisation_id)
        )
        self._calls.append(call)
        return call

    def token(self, campaign: Running, revision: int) -> str:
        """The token that a watcher got at this revision."""
        return self.servicer._token(
            revision, campaign.organisation_id.bytes + campaign.campaign_id.bytes
        )

    async def running(self, contacts: int, **fields: Any) -> Running:
        return await running_campaign(self.pool, contacts, **fields)

    async def claim(self, campaign: Running, limit: int) -> list[int]:
        """One commit: these numbers are SENDING now."""
        claimed = await self.claims.claim(
            self.instance_id, campaign.campaign_id, 1, 1, campaign.contacts, limit
        )
        return [message.number for message in claimed.messages]

    async def report(
        self, campaign: Running, outcome: "pb.Outcome.ValueType", *numbers: int, **fields: Any
    ) -> None:
        """One commit, if it changes anything."""
        reports = [
            pb.Report(number=number, attempt=1, outcome=outcome, segments=1, **fields)
            for number in numbers
        ]
        part = pb.CampaignReports(campaign_id=str(campaign.campaign_id), reports=reports)
        await self.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])

    async def finish(self, campaign: Running, batch: int) -> None:
        """Claim, accept and deliver everything; every tenth message fails."""
        while numbers := await self.claim(campaign, batch):
            await self.report(campaign, pb.OUTCOME_ACCEPTED, *numbers)
            failed = [number for number in numbers if number % 10 == 0]
            delivered = [number for number in numbers if number % 10]
            if failed:
                await self.report(campaign, pb.OUTCOME_FAILED, *failed, failure_reason=2)
            await self.report(campaign, pb.OUTCOME_DELIVERED, *delivered)

    async def revision(self, campaign: Running) -> int:
        revision: int = await self.pool.fetchval(
            "SELECT revision FROM campaign WHERE id = $1", campaign.campaign_id
        )
        return revision

    async def long_log(self, campaign: Running, commits: int, changes: int) -> None:
        """So many commits that each tell of the first `changes` messages, from revision 2 on; no status changes."""
        await self.pool.execute(
            """
            INSERT INTO change_log (campaign_id, revision, campaign_status, counts, numbers, statuses,
                failure_reasons, attempts)
            SELECT $1, revision, 3, ARRAY[0, $2, 0, 0, 0, 0, 0, 0, 0, 0]::int[],
                ARRAY(SELECT generate_series(1, $4::int)), array_fill(2::smallint, ARRAY[$4::int]),
                array_fill(0::smallint, ARRAY[$4::int]), array_fill(0, ARRAY[$4::int])
            FROM generate_series(2, $3::int + 1) AS revision
            """,
            campaign.campaign_id,
            campaign.contacts,
            commits,
            changes,
        )
        await self.pool.execute(
            "UPDATE campaign SET revision = $2 WHERE id = $1", campaign.campaign_id, commits + 1
        )

    def hang_up(self) -> None:
        for call in self._calls:
            call.cancel()


@asynccontextmanager
async def watch_rig(
    database_dsn: str, nats_url: str, *, run: bool = True, **servicer: float
) -> AsyncIterator[WatchRig]:
    """`run`: whether the hub runs. Others: arguments of the servicer."""
    pool = await create_pool(database_dsn, application_name="tests")
    try:
        async with nats_connection(nats_url, name="tests") as nats:
            hub = WatchHub(pool, nats)
            signer = TokenSigner([b"a key of the tests, for tokens only"])
            rig = WatchRig(
                pool, hub, WatchServicer(pool, hub, signer, **servicer), NatsWakeups(nats)
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(hub.run()) if run else None
                async with _listening(rig):
                    yield rig
                if running is not None:
                    running.cancel()
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await pool.close()
        pool.terminate()


@asynccontextmanager
async def _listening(rig: WatchRig) -> AsyncIterator[None]:
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        services=[
            Service(
                watch_pb2.DESCRIPTOR.services_by_name["WatchService"].full_name,
                lambda server: add_to(rig.servicer, server),
            )
        ],
        authentication=AuthenticationInterceptor(
            rig.lookup, roles_allowed=lambda _method: CAMPAIGN_ROLES, open_services=OPEN_SERVICES
        ),
    )
    channel = create_channel(f"127.0.0.1:{await server.start()}")
    rig.stub = watch_pb2_grpc.WatchServiceStub(channel)
    try:
        yield
    finally:
        rig.hang_up()
        await channel.close()
        await server.drain(end_streams=rig.hub.drain, grace_seconds=1)


async def refusal(watching: Any) -> OutreachError:
    """What a watch ends with, after whatever it still tells."""
    while True:
        try:
            await (watching.read() if isinstance(watching, Watch) else read(watching))
        except OutreachError as error:
            return error
