"""The rows. Messages are values that are replaced, so a copy of a campaign is cheap and shares nothing that changes."""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from services.campaign.domain.lifecycle import Counts


class Message(NamedTuple):
    """A row of `message`."""

    number: int
    status: MessageStatus = MessageStatus.QUEUED
    failure_reason: int | None = None
    run: int = 0
    attempt: int = 0
    claimed_by: UUID | None = None
    claim_time: float | None = None
    update_time: float = 0.0
    provider_message_id: str | None = None
    provider_code: str | None = None
    segments: int = 0


class Contact(NamedTuple):
    """A row of `contact`."""

    recipient: str
    recipient_hash: bytes


#: The time `infinity`.
NEVER = math.inf


class Unknown(NamedTuple):
    """A row of `unknown_attempt`."""

    number: int
    attempt: int
    unknown_time: float
    look_ups: int
    next_look_up_time: float


class Commit(NamedTuple):
    """A row of `change_log`."""

    revision: int
    commit_time: float
    campaign_status: int
    counts: list[int]
    numbers: list[int]
    statuses: list[int]
    failure_reasons: list[int]
    attempts: list[int]


_ARRIVED = (MessageStatus.DELIVERED, MessageStatus.ASSUMED_DELIVERED)


@dataclass(slots=True)
class Campaign:
    """A row of `campaign`, with all rows that belong to it. Times in seconds of the loop's clock."""

    id: UUID
    organisation_id: UUID
    channel: Channel
    contacts: dict[int, Contact]
    messages: dict[int, Message]
    counts: Counts
    status: CampaignStatus = CampaignStatus.READY
    holds_channel: bool = False
    run: int = 0
    revision: int = 0
    start_time: float | None = None
    stop_time: float | None = None
    end_time: float | None = None
    failure_reason: FailureReason | None = None
    dispatch_epoch: int = 0
    dispatched_through: int = 0
    undispatched: int = 0
    dispatch_time: float | None = None
    claim_time: float | None = None
    unknown: dict[int, Unknown] = field(default_factory=dict)
    #: Earlier attempts, by number and attempt.
    attempts: dict[tuple[int, int], Message] = field(default_factory=dict)
    log: list[Commit] = field(default_factory=list)
    log_pruned_through: int = 0

    def arrived(self, number: int) -> Message | None:
        """An attempt that a retry has followed, and that arrived: better one that was told so than one assumed so."""
        kept = (attempt for (of, _), attempt in self.attempts.items() if of == number)
        arrived = [attempt for attempt in kept if attempt.status in _ARRIVED]
        return min(arrived, key=lambda attempt: attempt.status, default=None)

    def copy(self) -> "Campaign":
        """Another one that can be changed."""
        return replace(
            self,
            messages=dict(self.messages),
            unknown=dict(self.unknown),
            attempts=dict(self.attempts),
            log=list(self.log),
        )


class Suppression(NamedTuple):
    """A row of `suppression`."""

    suppressed: bool
    event_time: float


#: Organisation, channel, recipient's hash.
SuppressionKey = tuple[UUID, int, bytes]


@dataclass(slots=True)
class Tables:
    """What is committed."""

    campaigns: dict[UUID, Campaign] = field(default_factory=dict)
    suppressions: dict[SuppressionKey, Suppression] = field(default_factory=dict)
    ended_instances: set[UUID] = field(default_factory=set)
