"""Watchers: each follows a campaign from its first revision on, is cut off at times, and resumes with its token."""

import asyncio
from dataclasses import dataclass, field

import grpc.aio

from outreach.v1 import watch_pb2
from simulation.campaign_process import SIGNER
from simulation.rpc import Network, StreamCall
from simulation.scenario import ORGANISATION_ID, CampaignPlan
from simulation.world import Process, World

#: What a service says that can't serve a watcher now, beside a connection that breaks.
_TRANSIENT = {
    "SERVER_DRAINING",
    "STORE_UNAVAILABLE",
    "WATCHER_TOO_SLOW",
    "ConnectionResetError",  # which the service's own interceptor turns into STORE_UNAVAILABLE
}
_TRANSIENT_CODES = {grpc.StatusCode.UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class Told:
    """One message as a watcher was told of it."""

    revision: int
    number: int
    status: int
    attempt: int


@dataclass(slots=True)
class Watched:
    """All that one watcher was told."""

    plan: CampaignPlan
    told: list[Told] = field(default_factory=list)
    #: Revisions of the responses, in order.
    revisions: list[int] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)


class Watcher(Process):
    """A client that watches one campaign."""

    def __init__(self, world: World, name: str, network: Network, plan: CampaignPlan) -> None:
        super().__init__(world, name)
        self._network = network
        self._draw = world.random(name)
        self._position = 0
        self._token = SIGNER.sign(
            "resume", (0).to_bytes(8, "big"), ORGANISATION_ID.bytes + plan.campaign_id.bytes
        )
        self.watched = Watched(plan)

    async def watch(self) -> None:
        """For ever."""
        while True:
            request = watch_pb2.WatchCampaignRequest(
                campaign_id=str(self.watched.plan.campaign_id),
                resume_token=self._token,
                include_messages=True,
            )
            call = self._network.open_stream(
                self,
                "WatchCampaign",
                lambda message: bytes(message.SerializeToString()),
                watch_pb2.WatchCampaignResponse.FromString,
                first=request,
            )
            try:
                await self._read(call)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TRANSIENT_CODES and error.details() not in _TRANSIENT:
                    self.world.fail(f"{self.name} was refused: {error.details()}")
            finally:
                call.cancel()
            await asyncio.sleep(self._draw.uniform(0.02, 0.5))

    async def _read(self, call: StreamCall) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            self._token = response.resume_token
            self._position = response.revision
            if response.WhichOneof("event") == "changes":
                self._note(response.revision, response.changes)
            if self.world.is_faulty and self._draw.random() < 0.1:
                return  # tired of it; comes back with the token

    def _note(self, revision: int, changes: watch_pb2.CampaignChanges) -> None:
        watched = self.watched
        watched.revisions.append(revision)
        counts = changes.counts
        watched.counts.append(
            [
                getattr(counts, name.name)
                for name in counts.DESCRIPTOR.fields
                if name.name != "total"
            ]
        )
        watched.told += [
            Told(message.revision, message.number, int(message.status), message.attempt)
            for message in changes.messages
        ]

    @property
    def position(self) -> int:
        """The revision up to which it was told everything."""
        return self._position
