"""One committed change of a campaign's messages: the lock on its row, the counts, the revision, the log row."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from outreach.crash_points import reached
from outreach.postgres.queries import load_queries
from outreach.vocabulary import CampaignStatus, Channel, MessageStatus
from services.campaign.domain.lifecycle import Counts, campaign_status

QUERIES = load_queries("services.campaign.delivery", "delivery.sql")


#: The statuses in which an attempt may wait for a look-up (`unknown_attempt`); what moves on from one waits no more.
_LOOKED_UP = frozenset({MessageStatus.SENDING, MessageStatus.SENT})


class Wakeups(Protocol):
    """Tells the replicas that a campaign changed; may lose a call (readers also look by themselves)."""

    async def campaign_changed(
        self, organisation_id: UUID, campaign_id: UUID, revision: int
    ) -> None:
        """After commit."""


@dataclass(frozen=True, slots=True)
class Move:
    """One message that changed; `failure_reason` 0: none."""

    number: int
    attempt: int
    source: int
    target: int
    failure_reason: int = 0


@dataclass(frozen=True, slots=True)
class LockedCampaign:
    """The campaign's row as of the lock; valid until the transaction ends."""

    id: UUID
    organisation_id: UUID
    channel: Channel
    status: CampaignStatus
    run: int
    revision: int
    stopped: bool
    failed: bool
    ended: bool
    counts: Counts
    dispatch_epoch: int
    dispatched_through: int
    undispatched: int
    segments_mean: float
    since_dispatch_seconds: float | None
    since_claim_seconds: float | None

    @property
    def sending_allowed(self) -> bool:
        """Whether messages may be claimed or dispatched."""
        return self.status is CampaignStatus.IN_PROGRESS and not self.stopped and not self.failed


async def lock_campaign(connection: Any, campaign_id: UUID) -> LockedCampaign | None:
    """Lock the row until the transaction ends; None when there is no such campaign."""
    row = await connection.fetchrow(QUERIES["lock_campaign"], campaign_id)
    if row is None:
        return None
    return LockedCampaign(
        id=campaign_id,
        organisation_id=row["organisation_id"],
        channel=Channel(row["channel"]),
        status=CampaignStatus(row["status"]),
        run=row["run"],
        revision=row["revision"],
        stopped=row["stopped"],
        failed=row["failed"],
        ended=row["ended"],
        counts=Counts(
            waiting=row["waiting"],
            queued=row["queued"],
            sending=row["sending"],
            sent=row["sent"],
            retrying=row["retrying"],
            delivered=row["delivered"],
            assumed_delivered=row["assumed_delivered"],
            failed=row["failed_count"],
            opted_out=row["opted_out"],
            cancelled=row["cancelled"],
        ),
        dispatch_epoch=row["dispatch_epoch"],
        dispatched_through=row["dispatched_through"],
        undispatched=row["undispatched"],
        segments_mean=row["segments_mean"],
        since_dispatch_seconds=row["since_dispatch_seconds"],
        since_claim_seconds=row["since_claim_seconds"],
    )


async def record_changes(
    connection: Any, campaign: LockedCampaign, moves: list[Move], *, claimed: bool = False
) -> int:
    """Bring counts, status and revision up to date with `moves` and append them to the log; returns the revision.

    Completion is decided here: the status that follows from the counts is the campaign's status from this commit on.
    """
    counts = campaign.counts.moved((move.source, move.target) for move in moves)
    status, ends = campaign.status, False
    if campaign.run:  # before its first run a campaign's status depends on its template too
        status = campaign_status(
            counts, run=campaign.run, template_valid=True, critical_failure=campaign.failed
        )
        ends = not counts.active and not counts.retrying and not campaign.ended
    resolved = [move.number for move in moves if move.source in _LOOKED_UP]
    revision: int = await connection.fetchval(
        QUERIES["record_changes"],
        campaign.id,
        *counts.as_list(),
        int(status),
        claimed,
        ends,
        resolved,
        [move.number for move in moves],
        [move.target for move in moves],
        [move.failure_reason for move in moves],
        [move.attempt for move in moves],
    )
    if ends:
        reached("completion-before-commit")
    return revision


def moves_of(rows: Iterable[asyncpg.Record]) -> list[Move]:
    """The rows of a statement that returns number, attempt, old_status, new_status, failure_reason; only real changes.

    FAILED → FAILED (a reason at last) counts as a change.
    """
    return [
        Move(
            row["number"],
            row["attempt"],
            row["old_status"],
            row["new_status"],
            row["failure_reason"],
        )
        for row in rows
        if row["old_status"] != row["new_status"] or row["new_status"] == MessageStatus.FAILED
    ]
