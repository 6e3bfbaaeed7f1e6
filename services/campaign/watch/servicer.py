"""WatchService: snapshot, then changes in order, resumable from any token."""

import asyncio
import random
from typing import Any
from uuid import UUID

import asyncpg
import grpc

from outreach.errors import OutreachError
from outreach.rpc.call import current_caller
from outreach.tokens import TokenInvalidError, TokenSigner
from outreach.v1 import campaign_pb2, message_pb2, watch_pb2, watch_pb2_grpc
from outreach.vocabulary import CampaignStatus, Channel, MessageStatus
from services.campaign.rpc.convert import load_campaign
from services.campaign.rpc.fields import Fields
from services.campaign.watch.campaign_feed import Commits, resume_token_expired
from services.campaign.watch.feed import QUERIES, wait
from services.campaign.watch.hub import WatchHub
from services.campaign.watch.organisation_feed import Update, Wanted

#: Counts and changes of several commits are told together, at most this often.
TELL_INTERVAL_SECONDS = 0.1
HEARTBEAT_SECONDS = 15.0
#: A watcher that does not take a response for so long is cut off.
WRITE_SECONDS_MAX = 10.0
#: Of each watcher of all campaigns; a thousand of them are told every half second.
TELL_SECONDS_PER_WATCHER = 0.0005

SERVICE_NAME = watch_pb2.DESCRIPTOR.services_by_name["WatchService"].full_name
_HEARTBEAT = watch_pb2.WatchCampaignsResponse(heartbeat=watch_pb2.Heartbeat()).SerializeToString()

_Context = grpc.aio.ServicerContext[Any, Any]


class WatchServicer(watch_pb2_grpc.WatchServiceServicer):
    """Each call remembers what it has told; what there is to tell is in the hub's feeds."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        hub: WatchHub,
        signer: TokenSigner,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        write_seconds_max: float = WRITE_SECONDS_MAX,
    ) -> None:
        self._pool = pool
        self._hub = hub
        self._signer = signer
        self._heartbeat_seconds = heartbeat_seconds
        self._write_seconds_max = write_seconds_max

    # A coroutine that writes, as grpc.aio also serves it: only so can a write have a time-out.
    async def WatchCampaign(  # type: ignore[override] # the stubs know generators only
        self, request: watch_pb2.WatchCampaignRequest, context: _Context
    ) -> None:
        """See watch.proto."""
        organisation_id = current_caller().organisation_id
        fields = Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        fields.choices("statuses", request.statuses, MessageStatus)
        fields.check()
        self._hub.check_draining()
        bound_to = organisation_id.bytes + campaign_id.bytes
        if request.resume_token:
            position, revision = await self._position(
                request.resume_token, organisation_id, campaign_id
            )
        else:
            async with self._pool.acquire() as connection:
                snapshot = await load_campaign(connection, organisation_id, campaign_id)
            position = revision = snapshot.revision
            await self._write(
                context,
                watch_pb2.WatchCampaignResponse(
                    snapshot=snapshot,
                    revision=position,
                    resume_token=self._token(position, bound_to),
                ),
            )
        loop = asyncio.get_running_loop()
        told = loop.time()
        async with self._hub.campaign(campaign_id, revision) as feed:
            while True:
                self._hub.check_draining()
                news = feed.news
                commits = await feed.after(position)
                if not commits and await wait(news, told + self._heartbeat_seconds - loop.time()):
                    continue
                response = watch_pb2.WatchCampaignResponse()
                if commits:
                    position = commits[-1]["revision"]
                    response.changes.CopyFrom(_changes(commits, request))
                else:
                    feed.require_readable()
                    response.heartbeat.SetInParent()
                response.revision = position
                response.resume_token = self._token(position, bound_to)
                await self._write(context, response)
                told = loop.time()
                if commits and position >= feed.tail:
                    await asyncio.sleep(TELL_INTERVAL_SECONDS)

    # A coroutine that writes, and what it writes is encoded already: once, for all who watch.
    async def WatchCampaigns(  # type: ignore[override] # the stubs know generators only
        self, request: watch_pb2.WatchCampaignsRequest, context: _Context
    ) -> None:
        """See watch.proto."""
        organisation_id = current_caller().organisation_id
        fields = Fields()
        if request.channel:
            fields.choice("channel", request.channel, Channel, None)
        wanted = Wanted(
            request.channel, frozenset(fields.choices("statuses", request.statuses, CampaignStatus))
        )
        fields.check()
        loop = asyncio.get_running_loop()
        async with self._hub.organisation(organisation_id) as feed:
            asked = feed.ask()
            while not feed.has_looked(asked):
                await feed.news.wait()
                self._hub.check_draining()
                feed.require_readable()
            snapshot = await feed.snapshot(wanted)
            position, told = snapshot.position, set(snapshot.campaign_ids)
            await self._write(context, snapshot.encoded)
            told_time = loop.time()
            while True:
                self._hub.check_draining()
                news = feed.news
                updates = feed.updates_after(position)
                responses = _of_interest(updates, wanted, told)
                if updates:
                    position = updates[-1].position
                elif await wait(news, told_time + self._heartbeat_seconds - loop.time()):
                    continue
                else:
                    feed.require_readable()
                    responses = [_HEARTBEAT]
                for response in responses:
                    await self._write(context, response)
                if responses:
                    told_time = loop.time()
                await asyncio.sleep(_pause_seconds(feed.watchers))

    async def _position(
        self, token: str, organisation_id: UUID, campaign_id: UUID
    ) -> tuple[int, int]:
        """The revision that the token stands for, and the campaign's."""
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
            raise OutreachError("CAMPAIGN_NOT_FOUND", "There is no campaign with this id.")
        # Ahead of the campaign: the database was set back, and what the client was told is not so any more.
        if not row["log_pruned_through"] <= position <= row["revision"]:
            raise resume_token_expired()
        return position, row["revision"]

    def _token(self, revision: int, bound_to: bytes) -> str:
        return self._signer.sign("resume", revision.to_bytes(8, "big"), bound_to)

    async def _write(self, context: _Context, response: object) -> None:
        try:
            async with asyncio.timeout(self._write_seconds_max):
                await context.write(response)
        except TimeoutError as error:
            raise OutreachError(
                "WATCHER_TOO_SLOW",
                "The watcher does not read fast enough; watch again with the last token.",
            ) from error


def add_to(servicer: WatchServicer, server: grpc.aio.Server) -> None:
    """In place of the generated function, which would encode every response of WatchCampaigns anew
    for each watcher.
    """
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "WatchCampaign": grpc.unary_stream_rpc_method_handler(
            servicer.WatchCampaign,
            request_deserializer=watch_pb2.WatchCampaignRequest.FromString,
            response_serializer=watch_pb2.WatchCampaignResponse.SerializeToString,
        ),
        "WatchCampaigns": grpc.unary_stream_rpc_method_handler(
            servicer.WatchCampaigns,
            request_deserializer=watch_pb2.WatchCampaignsRequest.FromString,
            response_serializer=bytes,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))


def _of_interest(updates: list[Update], wanted: Wanted, told: set[UUID]) -> list[bytes]:
    """What a watcher is told of them; `told` follows."""
    responses = []
    for update in updates:
        if wanted.has(update.channel, update.status):
            told.add(update.campaign_id)
            responses.append(update.campaign)
        elif update.campaign_id in told:
            told.discard(update.campaign_id)
            responses.append(update.gone)
    return responses


def _pause_seconds(watchers: int) -> float:
    """Between two tellings. Of many watchers each is told less often, and not all at once, so that
    they together take a part of the process only.
    """
    seconds = max(TELL_INTERVAL_SECONDS, watchers * TELL_SECONDS_PER_WATCHER)
    return random.uniform(seconds, seconds * 1.25)


def _changes(
    commits: Commits, request: watch_pb2.WatchCampaignRequest
) -> watch_pb2.CampaignChanges:
    last = commits[-1]
    changes = watch_pb2.CampaignChanges(
        counts=status_counts(last["counts"]), status=last["campaign_status"]
    )
    changes.commit_time.FromDatetime(last["commit_time"])
    if not request.include_messages:
        return changes
    wanted = set(request.statuses)
    for commit in commits:
        for number, status, reason, attempt in zip(
            commit["numbers"],
            commit["statuses"],
            commit["failure_reasons"],
            commit["attempts"],
            strict=True,
        ):
            if not wanted or status in wanted:
                changes.messages.append(
                    watch_pb2.MessageChange(
                        number=number,
                        status=message_pb2.MessageStatus.ValueType(status),
                        failure_reason=reason,
                        attempt=attempt,
                        revision=commit["revision"],
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
