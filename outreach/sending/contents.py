"""Contents and accounts, fetched once and kept for a while.

A content never changes for its hash, so it is kept until others push it out. An account may change
any time, so it is asked for again after a minute; it is secret and only ever in memory.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Generic
from uuid import UUID

import grpc.aio

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.sending.provider import PreparedT, Provider
from outreach.sending.stream import Metadata
from outreach.vocabulary import Channel

CALL_SECONDS_MAX = 10.0
ACCOUNT_SECONDS_MAX = 60.0
ACCOUNTS_MAX = 1_000
CONTENTS_MAX = 64


class Accounts:
    """The organisations' provider accounts of one channel."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata, sends: Channel) -> None:
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._sends = sends
        self._known: OrderedDict[UUID, tuple[float, delivery_pb2.ProviderAccount]] = OrderedDict()
        self._locks: dict[UUID, asyncio.Lock] = {}

    async def get(self, organisation_id: UUID) -> delivery_pb2.ProviderAccount:
        """An account, at most a minute old. Raises grpc.aio.AioRpcError."""
        known = self._fresh(organisation_id)
        if known is not None:
            return known
        lock = self._locks.setdefault(organisation_id, asyncio.Lock())
        try:
            async with lock:
                known = self._fresh(organisation_id)
                return known or await self._fetch(organisation_id)
        finally:
            if not lock.locked():
                self._locks.pop(organisation_id, None)

    def forget(self, organisation_id: UUID) -> None:
        """The provider refused it: ask again before it is used again."""
        self._known.pop(organisation_id, None)

    def _fresh(self, organisation_id: UUID) -> delivery_pb2.ProviderAccount | None:
        known = self._known.get(organisation_id)
        if known is None or time.monotonic() - known[0] > ACCOUNT_SECONDS_MAX:
            return None
        return known[1]

    async def _fetch(self, organisation_id: UUID) -> delivery_pb2.ProviderAccount:
        account = await self._stub.GetProviderAccount(
            delivery_pb2.GetProviderAccountRequest(
                organisation_id=str(organisation_id),
                channel=int(self._sends),  # type: ignore[arg-type]  # same numbers, held by a test
            ),
            metadata=self._metadata,
            timeout=CALL_SECONDS_MAX,
        )
        self._known[organisation_id] = (time.monotonic(), account)
        self._known.move_to_end(organisation_id)
        if len(self._known) > ACCOUNTS_MAX:
            self._known.popitem(last=False)
        return account


class PreparedCampaigns(Generic[PreparedT]):
    """Campaigns made ready to send, by content hash and account."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        accounts: Accounts,
        provider: Provider[PreparedT],
    ) -> None:
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._accounts = accounts
        self._provider = provider
        self._contents: OrderedDict[tuple[str, str], delivery_pb2.CampaignContent] = OrderedDict()
        self._prepared: OrderedDict[
            tuple[str, str], tuple[delivery_pb2.ProviderAccount, PreparedT]
        ] = OrderedDict()

    async def get(self, organisation_id: UUID, campaign_id: str, content_hash: str) -> PreparedT:
        """A campaign ready to send. Raises grpc.aio.AioRpcError, CampaignNotSendable."""
        account = await self._accounts.get(organisation_id)
        key = (campaign_id, content_hash)
        known = self._prepared.get(key)
        if known is not None and (known[0] is account or known[0] == account):
            self._prepared.move_to_end(key)
            return known[1]
        prepared = self._provider.prepare(await self._content(key), account)
        self._prepared[key] = (account, prepared)
        if len(self._prepared) > CONTENTS_MAX:
            self._prepared.popitem(last=False)
        return prepared

    async def _content(self, key: tuple[str, str]) -> delivery_pb2.CampaignContent:
        known = self._contents.get(key)
        if known is not None:
            self._contents.move_to_end(key)
            return known
        content = await self._stub.GetCampaignContent(
            delivery_pb2.GetCampaignContentRequest(campaign_id=key[0], content_hash=key[1]),
            metadata=self._metadata,
            timeout=CALL_SECONDS_MAX,
        )
        self._contents[key] = content
        if len(self._contents) > CONTENTS_MAX:
            self._contents.popitem(last=False)
        return content
