"""A replica of the campaign service: the product's own parts, wired as `services.campaign.app` does it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from outreach.internal.v1 import delivery_pb2
from outreach.rpc.call import Call, Caller, begin_call
from outreach.sending import slots
from outreach.tokens import TokenSigner
from outreach.v1 import channel_pb2
from outreach.vocabulary import Channel, Role
from services.campaign.delivery import dispatcher, sweepers
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.dispatcher import Dispatcher
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.reports import Reports
from services.campaign.delivery.servicer import DeliveryServicer
from services.campaign.delivery.sweepers import Sweepers, Timers
from services.campaign.wakeups import NatsStops, NatsWakeups
from services.campaign.watch.hub import WatchHub
from services.campaign.watch.servicer import WatchServicer
from simulation import scenario as settings
from simulation.campaign_side import CampaignSide
from simulation.jetstream import Server
from simulation.rpc import Network
from simulation.scenario import ORGANISATION_ID, RECIPIENT_KEY, Scenario
from simulation.world import Process, World

#: Tokens of watchers; every replica has the same key.
SIGNER = TokenSigner([b"a key of the simulation, 32 bytes"])
_CALLER = Caller(ORGANISATION_ID, Role.CAMPAIGNER, "simulation")

TIMERS = Timers(
    assumed_delivered_after_seconds=settings.ASSUMED_DELIVERED_AFTER_SECONDS,
    unconfirmed_after_seconds=settings.UNCONFIRMED_AFTER_SECONDS,
    look_up_after_seconds=settings.LOOK_UP_AFTER_SECONDS,
    send_window_seconds=settings.SEND_WINDOW_SECONDS,
    request_seconds_max=dict.fromkeys(Channel, settings.REQUEST_SECONDS_MAX),
    email_look_up_after_seconds=settings.EMAIL_LOOK_UP_AFTER_SECONDS,
    email_timed_out_after_seconds=settings.EMAIL_TIMED_OUT_AFTER_SECONDS,
    change_log_kept_seconds=86_400.0,
)


#: See `paced`.
READY_MESSAGES_MORE = 2
IDLE_TICK_SECONDS = 2.0
CANCEL_SECONDS = 0.9


class _Contents:
    """In place of `Contents`: what a campaign says does not matter here."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def campaign_content(self, campaign_id: object) -> delivery_pb2.CampaignContent:
        return delivery_pb2.CampaignContent(
            campaign_id=str(campaign_id),
            organisation_id=str(ORGANISATION_ID),
            content_hash="hash-1",
            channel=channel_pb2.Channel.ValueType(self._channel),
        )

    async def provider_account(
        self, organisation_id: object, _channel: int
    ) -> delivery_pb2.ProviderAccount:
        return delivery_pb2.ProviderAccount(organisation_id=str(organisation_id))


class CampaignProcess(Process):
    """One replica, from its start to its end."""

    def __init__(
        self,
        world: World,
        name: str,
        scenario: Scenario,
        side: CampaignSide,
        network: Network,
        nats: Server,
    ) -> None:
        super().__init__(world, name)
        self._network = network
        self.pool = side.pool(self)
        connection = nats.connect(self)
        wakeups = NatsWakeups(connection)
        self.stops = NatsStops(connection)
        self.dispatcher = Dispatcher(
            self.pool,
            connection,
            redispatch_after_seconds=settings.REDISPATCH_AFTER_SECONDS,
        )
        self.sweepers = Sweepers(self.pool, wakeups, connection, TIMERS, purge=_keep)
        self._hub = WatchHub(self.pool, connection)
        self._watch = WatchServicer(self.pool, self._hub, SIGNER)
        self._delivery = DeliveryServicer(
            claims=Claims(self.pool, wakeups),
            reports=Reports(
                self.pool,
                wakeups,
                recipient_key=RECIPIENT_KEY,
                look_up_after_seconds=settings.LOOK_UP_AFTER_SECONDS,
            ),
            look_ups=LookUps(
                self.pool,
                look_up_after_seconds=settings.LOOK_UP_AFTER_SECONDS,
                email_look_up_after_seconds=settings.EMAIL_LOOK_UP_AFTER_SECONDS,
            ),
            contents=_Contents(scenario.channel),  # type: ignore[arg-type]  # has what is used
            send_window_seconds=settings.SEND_WINDOW_SECONDS,
        )

    def begin(self) -> None:
        """Serve, and run what runs in the background."""
        background: dict[str, Callable[[], Awaitable[Any]]] = {
            "dispatcher": self.dispatcher.run,
            "sweepers": self.sweepers.run,
            "watch-hub": self._hub.run,
        }
        for name, run in background.items():
            self.start(self._forever(name, run), name)
        self._network.servers[self] = {
            "Deliver": self._delivery.Deliver,
            "GetCampaignContent": self._delivery.GetCampaignContent,
            "GetProviderAccount": self._delivery.GetProviderAccount,
            "WatchCampaign": self._watch_campaign,
        }

    async def _forever(self, name: str, run: Callable[[], Awaitable[Any]]) -> None:
        try:
            await run()
        except Exception as error:
            self.world.fail(f"{self.name}: {name} failed: {error!r}")
            raise

    async def _watch_campaign(self, request: Any, context: Any) -> None:
        begin_call(Call("WatchCampaign", "", _CALLER))
        await self._watch.WatchCampaign(request, context)

    async def crash(self) -> None:
        """Killed: what it had not committed is gone."""
        self.alive = False
        self._network.servers.pop(self)
        self._network.cut_streams(self)
        await self.kill()

    async def drain(self) -> None:
        """Ended in good order, as a rolling restart does it."""
        self._network.servers.pop(self)
        self._hub.drain()
        self._delivery.drain()
        await asyncio.sleep(0.2)
        self._network.cut_streams(self)
        await self.kill()


async def _keep(_connection: object) -> None:
    """Nothing is old enough to be purged."""


@contextmanager
def paced(tick_seconds: float) -> Iterator[None]:
    """How often dispatchers and timers look: what finds nothing costs the simulation as much as what does.

    And how little lies ready at a sender, so that some messages make many claims.
    """
    with (
        patch.object(slots, "READY_MESSAGES_MORE", READY_MESSAGES_MORE),
        patch.object(dispatcher, "TICK_SECONDS", tick_seconds),
        patch.object(dispatcher, "IDLE_TICK_SECONDS", IDLE_TICK_SECONDS),
        patch.object(sweepers, "CANCEL_SECONDS", CANCEL_SECONDS),
        patch.object(sweepers, "period", _period),
    ):
        yield


def _period(after_seconds: float, seconds_max: float = 15.0) -> float:
    return min(max(after_seconds / 6, 1.0), seconds_max)
