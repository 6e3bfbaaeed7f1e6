"""All campaigns of one organisation, read once for all who watch them."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from uuid import UUID

import asyncpg

from outreach.errors import OutreachError
from outreach.v1 import campaign_pb2, watch_pb2
from services.campaign.rpc.convert import campaign_to_proto
from services.campaign.rpc.pages import fitting
from services.campaign.store import Record
from services.campaign.store.campaigns import campaign_of
from services.campaign.watch.feed import POLL_SECONDS, QUERIES, Feed

#: Campaigns of a snapshot; the newest.
SNAPSHOT_CAMPAIGNS_MAX = 200
#: Campaigns that are kept as they were told last.
KEPT_CAMPAIGNS_MAX = 2_000
#: Campaigns whose latest change is kept for watchers that have not taken it yet.
UPDATES_MAX = 5_000
#: Snapshots that are kept for those who come at the same time with the same filter.
SNAPSHOTS_MAX = 16
#: All campaigns are looked through for so small a part of the time at most.
LOOK_SHARE_MAX = 0.05

_DELETED = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A watcher's filter; 0 and empty: any."""

    channel: int
    statuses: frozenset[int]

    def has(self, channel: int, status: int) -> bool:
        """Whether a campaign is told; never one that was deleted."""
        return (
            status != _DELETED
            and self.channel in (0, channel)
            and (not self.statuses or status in self.statuses)
        )


@dataclass(frozen=True, slots=True)
class Update:
    """The latest change of a campaign, encoded for all who are told of it; `status` 0: deleted."""

    position: int
    campaign_id: UUID
    channel: int
    status: int
    campaign: bytes
    gone: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a new watcher is told first, encoded; updates after `position` follow."""

    position: int
    campaign_ids: tuple[UUID, ...]
    encoded: bytes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look saw of a campaign."""

    version: int
    channel: int
    status: int


class OrganisationFeed(Feed):
    """What changed, by campaign: a watcher that is behind gets the latest of each, and misses none.

    Between two looks through all campaigns, every second, only those are looked at that a wake-up
    names. A change is noticed by the version of the campaign's row.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", organisation_id: UUID) -> None:
        super().__init__()
        self._pool = pool
        self._organisation_id = organisation_id
        self._seen: dict[UUID, _Seen] = {}
        self._newest: list[UUID] | None = None
        self._campaigns: OrderedDict[UUID, campaign_pb2.Campaign] = OrderedDict()
        self._updates: OrderedDict[UUID, Update] = OrderedDict()
        self._position = 0
        self._dropped_through = 0
        self._snapshots: OrderedDict[tuple[Wanted, int], Snapshot] = OrderedDict()
        self._loading = asyncio.Lock()
        self._poked: set[UUID] = set()
        self._asked = False
        self._looks_begun = 0
        self._looks_done = 0
        self._due_seconds = 0.0

    def poke(self, campaign_id: UUID) -> None:
        """This campaign changed."""
        self._poked.add(campaign_id)
        self.wake.set()

    def ask(self) -> int:
        """Have it look at all now; gives what `has_looked` wants."""
        self._asked = True
        self.wake.set()
        return self._looks_begun + 1

    def has_looked(self, number: int) -> bool:
        """Whether a look that began after `ask` is done: what was committed before `ask` is known."""
        return self._looks_done >= number

    def updates_after(self, position: int) -> list[Update]:
        """The latest change of every campaign that changed after `position`, in order.

        WATCHER_TOO_SLOW when not all of them are kept any more.
        """
        if position < self._dropped_through:
            raise OutreachError(
                "WATCHER_TOO_SLOW", "The watcher does not read fast enough; watch again."
            )
        new = takewhile(lambda update: update.position > position, reversed(self._updates.values()))
        return [*new][::-1]

    async def snapshot(self, wanted: Wanted) -> Snapshot:
        """The newest campaigns that match; one answer for all who ask at the same time."""
        async with self._loading:
            position = self._position
            known = self._snapshots.get((wanted, position))
            if known is not None:
                return known
            if self._newest is None:
                self._newest = sorted(self._seen, reverse=True)
            ids: list[UUID] = []
            for campaign_id in self._newest:
                seen = self._seen.get(campaign_id)
                if seen is not None and wanted.has(seen.channel, seen.status):
                    ids.append(campaign_id)
                    if len(ids) == SNAPSHOT_CAMPAIGNS_MAX:
                        break
            found = {each: self._campaigns[each] for each in ids if each in self._campaigns}
            missing = [each for each in ids if each not in found]
            for campaign, version in await self._load(missing) if missing else ():
                campaign_id = UUID(campaign.id)
                found[campaign_id] = campaign
                if self._seen[campaign_id].version == version:
                    self._campaigns[campaign_id] = campaign
            # One that changed while it was loaded is told again as an update.
            campaigns = [found[each] for each in ids if each in found]
            campaigns = [each for each in campaigns if wanted.has(each.channel, each.status)]
            campaigns = campaigns[: fitting(campaigns)]
            snapshot = Snapshot(
                position,
                tuple(UUID(each.id) for each in campaigns),
                watch_pb2.WatchCampaignsResponse(
                    snapshot=watch_pb2.CampaignsSnapshot(campaigns=campaigns)
                ).SerializeToString(),
            )
            self._snapshots[wanted, position] = snapshot
            while len(self._snapshots) > SNAPSHOTS_MAX:
                self._snapshots.popitem(last=False)
            return snapshot

    async def _look(self) -> bool:
        self._looks_begun += 1
        look, first = self._looks_begun, self._looks_done == 0
        poked, self._poked = self._poked, set()
        now = time.monotonic()
        through_all = self._asked or now >= self._due_seconds
        self._asked = False
        try:
            changed = await self._changed(first=first) if through_all else poked
            if changed:
                async with self._loading:
                    self._tell_of(changed, await self._load(changed))
        except BaseException:
            self._poked |= poked
            self._asked = self._asked or through_all
            raise
        if through_all:
            spent = time.monotonic() - now
            self._due_seconds = now + max(POLL_SECONDS, spent / LOOK_SHARE_MAX)
            self._looks_done = look
        self.tell()
        return False

    async def _changed(self, *, first: bool) -> set[UUID]:
        """Campaigns that are new, other than they were, or gone; none at the first look."""
        rows = await self._pool.fetch(QUERIES["campaign_versions"], self._organisation_id)
        if first:
            self._seen = {
                row["id"]: _Seen(row["version"], row["channel"], row["status"]) for row in rows
            }
            return set()
        versions = {row["id"]: row["version"] for row in rows}
        changed = {
            campaign_id
            for campaign_id, version in versions.items()
            if (seen := self._seen.get(campaign_id)) is None or seen.version != version
        }
        return changed | (self._seen.keys() - versions.keys())

    async def _load(self, ids: Iterable[UUID]) -> list[tuple[campaign_pb2.Campaign, int]]:
        """As they are now, with their rows' versions; without those that are not there (any more)."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                QUERIES["campaign_rows"], self._organisation_id, list(ids)
            )
            # What is sent can't change once a campaign has run: it is not read again with each batch.
            unknown = [row["id"] for row in rows if not (row["run"] and self._has_run(row["id"]))]
            contents = {
                row["campaign_id"]: row
                for row in await connection.fetch(QUERIES["campaign_contents"], unknown)
            }
        return [
            (self._campaign(row, contents.get(row["id"])), row["row_version"])
            for row in sorted(rows, key=lambda row: row["id"])
            if row["id"] in contents or row["id"] not in unknown
        ]

    def _has_run(self, campaign_id: UUID) -> bool:
        """Whether the one that is kept had been run, so that its content is the last one."""
        kept = self._campaigns.get(campaign_id)
        return kept is not None and kept.run > 0

    def _campaign(self, row: Record, content: Record | None) -> campaign_pb2.Campaign:
        """The whole campaign, or with the content of the one that is kept."""
        if content is not None:
            return campaign_to_proto(campaign_of({**row, **content, "content_hash": ""}))
        empty: dict[str, Any] = {"content": "{}", "compiled_report": None}
        campaign = campaign_to_proto(
            campaign_of({**row, **empty, "columns": "[]", "problems": "[]"})
        )
        kept = self._campaigns[row["id"]]
        for field in ("sms", "email", "email_size"):
            if kept.HasField(field):
                getattr(campaign, field).CopyFrom(getattr(kept, field))
        campaign.columns.extend(kept.columns)
        campaign.template_problems.extend(kept.template_problems)
        campaign.template_warnings.extend(kept.template_warnings)
        return campaign

    def _tell_of(
        self, changed: Iterable[UUID], loaded: list[tuple[campaign_pb2.Campaign, int]]
    ) -> None:
        """In one step, so that no watcher sees half of it."""
        here = {UUID(campaign.id) for campaign, _ in loaded}
        for campaign, version in loaded:
            campaign_id = UUID(campaign.id)
            seen = self._seen.get(campaign_id)
            if seen is not None and seen.version == version:
                continue
            if seen is None:
                self._newest = None
            self._seen[campaign_id] = _Seen(version, campaign.channel, campaign.status)
            self._campaigns[campaign_id] = campaign
            self._campaigns.move_to_end(campaign_id)
            self._append(campaign_id, campaign.channel, campaign.status, campaign)
        for campaign_id in sorted(set(changed) - here):
            seen = self._seen.pop(campaign_id, None)
            if seen is not None:
                self._newest = None
                self._campaigns.pop(campaign_id, None)
                self._append(campaign_id, seen.channel, _DELETED, None)
        while len(self._campaigns) > KEPT_CAMPAIGNS_MAX:
            self._campaigns.popitem(last=False)
        while len(self._updates) > UPDATES_MAX:
            self._dropped_through = self._updates.popitem(last=False)[1].position

    def _append(
        self, campaign_id: UUID, channel: int, status: int, campaign: campaign_pb2.Campaign | None
    ) -> None:
        self._position += 1
        told = watch_pb2.WatchCampaignsResponse(campaign=campaign)
        gone = watch_pb2.CampaignGone(
            id=str(campaign_id), status=campaign_pb2.CampaignStatus.ValueType(status)
        )
        self._updates[campaign_id] = Update(
            self._position,
            campaign_id,
            channel,
            status,
            told.SerializeToString(),
            watch_pb2.WatchCampaignsResponse(gone=gone).SerializeToString(),
        )
        self._updates.move_to_end(campaign_id)
