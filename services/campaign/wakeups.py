"""Tells all replicas that a campaign changed, and senders that a run was stopped: core NATS, after commit, nothing
stored.
"""

from uuid import UUID

import structlog

from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from outreach.jetstream.stops import Stop
from outreach.jetstream.topology import event_subject, stops_subject
from outreach.vocabulary import Channel

_log = structlog.get_logger(__name__)


class NatsWakeups:
    """Never fails and never waits for NATS: a lost wake-up costs its readers one poll."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats

    async def campaign_changed(
        self, organisation_id: UUID, campaign_id: UUID, revision: int
    ) -> None:
        """Publish the revision."""
        if not self._nats.is_connected:
            return
        try:
            await self._nats.client.publish(
                event_subject(organisation_id, campaign_id), str(revision).encode()
            )
        except NATS_FAULTS as error:
            _log.debug("wakeup lost", error=type(error).__name__)


class NatsStops:
    """Never fails and never waits for NATS: a sender that hears nothing ends with its next claim, or its window."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats

    async def run_stopped(self, channel: Channel, campaign_id: UUID, run: int) -> None:
        """After commit."""
        if not self._nats.is_connected:
            return
        try:
            stop = Stop(campaign_id, run)
            await self._nats.client.publish(stops_subject(channel), stop.encode())
        except NATS_FAULTS as error:
            _log.warning("stop_not_told", error=type(error).__name__, campaign_id=str(campaign_id))
