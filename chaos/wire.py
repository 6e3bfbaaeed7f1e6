"""Between the public API's messages and the words of a history."""

from __future__ import annotations

import time
from collections.abc import Mapping

from chaos.history import CampaignSeen, MessageChange, Told, Watched
from outreach.v1 import campaign_pb2, channel_pb2, message_pb2, watch_pb2
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus

_FINAL = (CampaignStatus.COMPLETE, CampaignStatus.COMPLETE_WITH_ERRORS, CampaignStatus.FAILED)
_TOLD: Mapping[str, Told] = {
    "snapshot": Told.SNAPSHOT,
    "changes": Told.CHANGES,
    "heartbeat": Told.HEARTBEAT,
}


def wire_channel(channel: Channel) -> channel_pb2.Channel.ValueType:
    """As requests name it."""
    return channel_pb2.Channel.Value(f"CHANNEL_{channel.name}")


def wire_status(status: MessageStatus) -> message_pb2.MessageStatus.ValueType:
    """As requests name it."""
    return message_pb2.MessageStatus.Value(f"MESSAGE_STATUS_{status.name}")


def is_final(campaign: campaign_pb2.Campaign) -> bool:
    """Whether every message of it is final."""
    return CampaignStatus(campaign.status) in _FINAL


def counts_of(counts: campaign_pb2.StatusCounts) -> dict[MessageStatus, int]:
    """The counts that are not 0."""
    named = {status: getattr(counts, status.name.lower()) for status in MessageStatus}
    return {status: number for status, number in named.items() if number}


def campaign_seen(campaign: campaign_pb2.Campaign, source: str) -> CampaignSeen:
    """A campaign as an answer of now says it is."""
    return CampaignSeen(
        source=source,
        time=time.time(),
        campaign_id=campaign.id,
        channel=Channel(campaign.channel),
        status=CampaignStatus(campaign.status),
        counts=counts_of(campaign.counts),
        total=campaign.counts.total,
    )


def watched(
    response: watch_pb2.WatchCampaignResponse, watcher: str, campaign_id: str, reconnects: int
) -> Watched:
    """A response of WatchCampaign that was read now."""
    told = _TOLD[response.WhichOneof("event") or "heartbeat"]
    state: campaign_pb2.Campaign | watch_pb2.CampaignChanges | None = None
    total = None
    if told is Told.SNAPSHOT:
        state, total = response.snapshot, response.snapshot.counts.total
    elif told is Told.CHANGES:
        state, total = response.changes, response.changes.counts.total
    return Watched(
        watcher=watcher,
        campaign_id=campaign_id,
        time=time.time(),
        told=told,
        revision=response.revision,
        reconnects=reconnects,
        status=None if state is None else CampaignStatus(state.status),
        counts=None if state is None else counts_of(state.counts),
        total=total,
        messages=tuple(_change(change) for change in response.changes.messages),
    )


def _change(change: watch_pb2.MessageChange) -> MessageChange:
    reason = FailureReason(change.failure_reason) if change.failure_reason else None
    return MessageChange(
        number=change.number,
        status=MessageStatus(change.status),
        failure_reason=reason,
        attempt=change.attempt,
        revision=change.revision,
    )
