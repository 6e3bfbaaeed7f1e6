"""The calls of `outreach.v1.WatchService`: streams that mend themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import cached_property

import grpc

from outreach.client.connection import Connection, heard
from outreach.client.errors import CallError
from outreach.client.streams import Pauses, cut, ended
from outreach.v1 import campaign_pb2, message_pb2, watch_pb2, watch_pb2_grpc
from outreach.v1.channel_pb2 import CHANNEL_UNSPECIFIED, Channel

# Called with what cut the stream, before it is opened again.
OnReconnect = Callable[[CallError], None]


class WatchCalls(Connection):
    """Live status. A watch ends when its reader leaves the loop, or with a `CallError`."""

    async def watch_campaign(
        self,
        campaign_id: str,
        *,
        resume_token: str = "",
        include_messages: bool = False,
        statuses: Sequence[message_pb2.MessageStatus.ValueType] = (),
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncGenerator[watch_pb2.WatchCampaignResponse]:
        """A snapshot, then every change in order, exactly once, for as long as it is read.

        A cut stream is opened again from its last token, for ever: the reader sees no gap and no
        repeat. The bound is the reader's: leave the loop, or cancel.

        Args:
            campaign_id: which campaign.
            resume_token: of an earlier watch's response, to go on from there without a snapshot.
            include_messages: single messages too, not only counts and status.
            statuses: with `include_messages`, only changes to one of these.
            on_reconnect: called with what cut the stream, before it is opened again.

        Raises:
            CallError: RESUME_TOKEN_EXPIRED when the token is older than what the service keeps:
                watch again without a token, and list again.
        """
        pauses = Pauses()
        while True:
            call = self._watches.WatchCampaign(
                watch_pb2.WatchCampaignRequest(
                    campaign_id=campaign_id,
                    resume_token=resume_token,
                    include_messages=include_messages,
                    statuses=statuses,
                ),
                metadata=self._metadata,
            )
            try:
                async for response in heard(
                    aiter(call), silence_seconds_max=self.timeouts.silence_seconds_max
                ):
                    pauses.reset()
                    resume_token = response.resume_token or resume_token
                    yield response
                cut_by = ended()
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                cut_by = cut(error)
            finally:
                call.cancel()
            if on_reconnect is not None:
                on_reconnect(cut_by)
            await pauses.wait()

    async def watch_campaigns(
        self,
        *,
        channel: Channel.ValueType = CHANNEL_UNSPECIFIED,
        statuses: Sequence[campaign_pb2.CampaignStatus.ValueType] = (),
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncGenerator[watch_pb2.WatchCampaignsResponse]:
        """All campaigns that match: a snapshot of the newest 200, then each campaign when it changed.

        Without their templates' bodies. One that matches no more is told as `gone`. A cut stream is
        opened again and begins with a new snapshot, which replaces all that was told before.
        """
        pauses = Pauses()
        while True:
            call = self._watches.WatchCampaigns(
                watch_pb2.WatchCampaignsRequest(channel=channel, statuses=statuses),
                metadata=self._metadata,
            )
            try:
                async for response in heard(
                    aiter(call), silence_seconds_max=self.timeouts.silence_seconds_max
                ):
                    pauses.reset()
                    yield response
                cut_by = ended()
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                cut_by = cut(error)
            finally:
                call.cancel()
            if on_reconnect is not None:
                on_reconnect(cut_by)
            await pauses.wait()

    @cached_property
    def _watches(self) -> watch_pb2_grpc.WatchServiceAsyncStub:
        return watch_pb2_grpc.WatchServiceStub(self._channel)
