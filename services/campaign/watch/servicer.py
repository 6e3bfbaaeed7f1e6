"""WatchService: snapshot, then changes in order, resumable from any token."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import grpc

from outreach.errors import OutreachError, Violation
from outreach.rpc.call import current_caller
from outreach.tokens import TokenInvalidError, TokenSigner
from outreach.v1 import campaign_pb2, message_pb2, watch_pb2, watch_pb2_grpc
from outreach.vocabulary import Channel
from services.campaign.rpc.convert import load_campaign, load_campaigns
from services.campaign.watch.hub import QUERIES, Watcher, WatchHub

#: Counts and changes of several commits are told together, at most this often.
TELL_INTERVAL_SECONDS = 0.1
HEARTBEAT_SECONDS = 15.0
#: A watcher that does not take a response for so long is cut off.
WRITE_SECONDS_MAX = 10.0
#: Message changes in one response; a commit is never split, so one commit's may be more.
CHANGES_TOGETHER_MAX = 5_000

_Context = grpc.aio.ServicerContext[Any, Any]


class WatchServicer(watch_pb2_grpc.WatchServiceServicer):
    """Thin: reads through the hub."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", hub: WatchHub, signer: TokenSigner
    ) -> None:
        self._pool = pool
        self._hub = hub
        self._signer = signer

    # A coroutine that writes, as grpc.aio also serves it: only so can a write have a time-out.
    async def WatchCampaign(  # type: ignore[override] # the stubs know generators only
        self, request: watch_pb2.WatchCampaignRequest, context: _Context
    ) -> None:
        """See watch.proto."""
        organisation_id = current_caller().organisation_id
        campaign_id = campaign_uuid(request.campaign_id)
        bound_to = organisation_id.bytes + campaign_id.bytes
        if request.resume_token:
            position = await self._position(request.resume_token, organisation_id, campaign_id)
        else:
            async with self._pool.acquire() as connection:
                snapshot = await load_campaign(connection, organisation_id, campaign_id)
            position = snapshot.revision
            await self._write(
                context,
                watch_pb2.WatchCampaignResponse(
                    snapshot=snapshot,
                    revision=position,
                    resume_token=self._token(position, bound_to),
                ),
            )
        async for rows in self._changes(campaign_id, position):
            response = watch_pb2.WatchCampaignResponse()
            if rows:
                position = rows[-1]["revision"]
                response.changes.CopyFrom(_changes(rows, request))
            else:
                response.heartbeat.SetInParent()
            response.revision = position
            response.resume_token = self._token(position, bound_to)
            await self._write(context, response)

    # A coroutine that writes, as grpc.aio also serves it: only so can a write have a time-out.
    async def WatchCampaigns(  # type: ignore[override] # the stubs know generators only
        self, request: watch_pb2.WatchCampaignsRequest, context: _Context
    ) -> None:
        """See watch.proto."""
        organisation_id = current_caller().organisation_id
        channel = Channel(int(request.channel)) if request.channel else None
        told: dict[str, int] = {}
        first = True
        async with self._hub.organisation(organisation_id) as watcher:
            quiet_since = asyncio.get_running_loop().time()
            while True:
                self._check_draining()
                watcher.ready.clear()
                async with self._pool.acquire() as connection:
                    running = await load_campaigns(
                        connection, organisation_id, channel=channel, running_only=True
                    )
                    now_running = {campaign.id: campaign for campaign in running}
                    gone = [
                        await load_campaign(connection, organisation_id, UUID(campaign_id))
                        for campaign_id in told.keys() - now_running.keys()
                    ]
                if first:
                    first = False
                    snapshot = watch_pb2.CampaignsSnapshot(campaigns=running)
                    await self._write(context, watch_pb2.WatchCampaignsResponse(snapshot=snapshot))
                    news = []
                else:
                    news = [
                        *(c for c in running if told.get(c.id) != c.revision),
                        *gone,
                    ]
                told = {campaign.id: campaign.revision for campaign in running}
                loop = asyncio.get_running_loop()
                for campaign in news:
                    await self._write(context, watch_pb2.WatchCampaignsResponse(campaign=campaign))
                if news:
                    quiet_since = loop.time()
                elif loop.time() - quiet_since >= HEARTBEAT_SECONDS:
                    heartbeat = watch_pb2.WatchCampaignsResponse(heartbeat=watch_pb2.Heartbeat())
                    await self._write(context, heartbeat)
                    quiet_since = loop.time()
                await asyncio.sleep(TELL_INTERVAL_SECONDS)
                await watcher.ready.wait()

    async def _changes(
        self, campaign_id: UUID, position: int
    ) -> AsyncIterator[list[asyncpg.Record]]:
        """Rows of the log after `position`, in order, without end; an empty list is a heartbeat."""
        async with self._hub.campaign(campaign_id, position) as (watcher, tail):
            while position < tail:  # what the shared reader has passed already
                self._check_draining()
                rows = [
                    row
                    for row in await self._hub.changes_after(campaign_id, position)
                    if row["revision"] <= tail
                ]
                if not rows:
                    break
                position = rows[-1]["revision"]
                yield rows
            while True:
                self._check_draining()
                rows = _take(watcher, position)
                if rows:
                    position = rows[-1]["revision"]
                    yield rows
                    await asyncio.sleep(TELL_INTERVAL_SECONDS)
                elif not await _wait_ready(watcher):
                    yield []

    async def _position(self, token: str, organisation_id: UUID, campaign_id: UUID) -> int:
        try:
            payload = self._signer.verify(
                "resume", token, organisation_id.bytes + campaign_id.bytes
            )
        except TokenInvalidError as error:
            raise OutreachError(
                "RESUME_TOKEN_INVALID",
                "The resume token was not made for this campaign. Watch without one.",
            ) from error
        position = int.from_bytes(payload, "big")
        row = await self._pool.fetchrow(QUERIES["position"], campaign_id, organisation_id)
        if row is None:
            raise OutreachError("CAMPAIGN_NOT_FOUND", "There is no such campaign.")
        if position < row["log_pruned_through"]:
            raise OutreachError(
                "RESUME_TOKEN_EXPIRED",
                "What came after the token is not kept any more. Watch without a token and list again.",
            )
        return position

    def _token(self, revision: int, bound_to: bytes) -> str:
        return self._signer.sign("resume", revision.to_bytes(8, "big"), bound_to)

    def _check_draining(self) -> None:
        if self._hub.draining.is_set():
            raise OutreachError(
                "SERVER_DRAINING", "The server stops; watch again with the last token."
            )

    async def _write(self, context: _Context, response: object) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await context.write(response)
        except TimeoutError as error:
            raise _too_slow() from error


def campaign_uuid(text: str) -> UUID:
    """The id of a campaign, or the error of one that can't be."""
    try:
        return UUID(text)
    except ValueError as error:
        raise OutreachError.invalid(
            Violation("campaign_id", "FIELD_INVALID", "A campaign's id is a UUID.")
        ) from error


def _too_slow() -> OutreachError:
    return OutreachError(
        "WATCHER_TOO_SLOW",
        "The watcher does not read fast enough; watch again with the last token.",
    )


def _take(watcher: Watcher, position: int) -> list[asyncpg.Record]:
    """Whole commits from the buffer, up to CHANGES_TOGETHER_MAX message changes."""
    if watcher.lost:
        raise _too_slow()
    rows: list[asyncpg.Record] = []
    changes = 0
    while watcher.rows and changes < CHANGES_TOGETHER_MAX:
        row = watcher.rows.popleft()
        if row["revision"] > position:
            rows.append(row)
            changes += len(row["numbers"])
    if not watcher.rows:
        watcher.ready.clear()
    return rows


async def _wait_ready(watcher: Watcher) -> bool:
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            await watcher.ready.wait()
    except TimeoutError:
        return False
    return True


def _changes(
    rows: list[asyncpg.Record], request: watch_pb2.WatchCampaignRequest
) -> watch_pb2.CampaignChanges:
    last = rows[-1]
    changes = watch_pb2.CampaignChanges(
        counts=status_counts(last["counts"]), status=last["campaign_status"]
    )
    changes.commit_time.FromDatetime(last["commit_time"])
    if not request.include_messages:
        return changes
    wanted = set(request.statuses)
    for row in rows:
        for number, status, reason, attempt in zip(
            row["numbers"], row["statuses"], row["failure_reasons"], row["attempts"], strict=True
        ):
            if not wanted or status in wanted:
                changes.messages.append(
                    watch_pb2.MessageChange(
                        number=number,
                        status=message_pb2.MessageStatus.ValueType(status),
                        failure_reason=reason,
                        attempt=attempt,
                        revision=row["revision"],
                    )
                )
    return changes


def status_counts(values: list[int]) -> campaign_pb2.StatusCounts:
    """From the log's array, by status number."""
    return campaign_pb2.StatusCounts(
        waiting=values[0],
        queued=values[1],
        sending=values[2],
        sent=values[3],
        retrying=values[4],
        delivered=values[5],
        assumed_delivered=values[6],
        failed=values[7],
        opted_out=values[8],
        cancelled=values[9],
        total=sum(values),
    )
