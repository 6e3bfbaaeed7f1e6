"""Runs that are over: stopped, refused by the provider, or not running any more. Of these nothing begins."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog
from nats.aio.msg import Msg

from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from outreach.jetstream.stops import Stop
from outreach.jetstream.topology import stops_subject
from outreach.vocabulary import Channel

#: Runs that are remembered. A claim lives for a send window; of a forgotten run the next claim says that it is over.
RUNS_MAX: Final = 1_000
SUBSCRIBE_RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)

RunKey = tuple[UUID, int]


class OverRuns:
    """The latest runs that are over. `on_over` is called with each new one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[RunKey, None] = OrderedDict()
        self.on_over: Callable[[], None] = lambda: None

    def __contains__(self, run: RunKey) -> bool:
        return run in self._runs

    def add(self, run: RunKey) -> bool:
        """Whether it is new. What of it has not begun is handed back before this returns."""
        if run in self._runs:
            return False
        if len(self._runs) >= RUNS_MAX:
            self._runs.popitem(last=False)
        self._runs[run] = None
        self.on_over()
        return True


class StopListener:
    """Hears of stops on core NATS. One that is missed is noticed by the next claim, or ends with the window."""

    def __init__(self, nats: NatsConnection, channel: Channel, over: OverRuns) -> None:
        self._nats = nats
        self._subject = stops_subject(channel)
        self._over = over

    async def run(self) -> None:
        """Until cancelled. nats-py subscribes again by itself after each reconnect."""
        await self._nats.connected()
        while True:
            try:
                await self._nats.client.subscribe(self._subject, cb=self._on_stop)
            except NATS_FAULTS as error:
                _log.warning("stops_not_heard", error=type(error).__name__)
                await asyncio.sleep(SUBSCRIBE_RETRY_SECONDS)
            else:
                break
        await asyncio.Event().wait()

    async def _on_stop(self, message: Msg) -> None:
        try:
            stop = Stop.decode(message.data)
        except ValueError as error:
            _log.error("stop_malformed", error=str(error))
            return
        if self._over.add((stop.campaign_id, stop.run)):
            _log.info("run_stopped", campaign_id=str(stop.campaign_id), run=stop.run)
