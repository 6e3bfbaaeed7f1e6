"""Tells all replicas that a campaign changed: core NATS, after commit, nothing stored."""

from uuid import UUID

import structlog

from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from outreach.jetstream.topology import event_subject

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
