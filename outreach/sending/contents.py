"""Contents and accounts, fetched once and kept for a while.

A content never changes for its hash, so it is kept until others push it out. An account may change
any time, so it is asked for again after a minute; it is secret and only ever in memory.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic
from uuid import UUID
from weakref import WeakValueDictionary

import grpc.aio

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.sending.provider import PreparedT, Provider
from outreach.sending.stream import Metadata
from outreach.vocabulary import Channel

CALL_SECONDS_MAX: Final = 10.0
#: For one attachment.
ATTACHMENT_SECONDS_MAX: Final = 60.0
ACCOUNT_SECONDS_MAX: Final = 60.0
ACCOUNTS_MAX: Final = 1_000
CONTENTS_MAX: Final = 64
#: Of contents with their attachments, as they came. The one used last is kept whatever its size.
CONTENTS_BYTES_MAX: Final = 128 * 1024 * 1024
#: The organisation, or its account of the channel, is not there: an answer, not a fault that passes.
NO_ACCOUNT_CODES: Final = frozenset(
    (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
)


class Accounts:
    """The organisations' provider accounts of one channel."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata, sends: Channel) -> None:
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._sends = sends
        self._known: OrderedDict[UUID, tuple[float, delivery_pb2.ProviderAccount]] = OrderedDict()
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def get(self, organisation_id: UUID) -> delivery_pb2.ProviderAccount:
        """An account, at most a minute old. Raises grpc.aio.AioRpcError."""
        known = self._fresh(organisation_id)
        if known is not None:
            return known
        async with self._locks.setdefault(organisation_id, asyncio.Lock()):
            known = self._fresh(organisation_id)
            return known or await self._fetch(organisation_id)

    def forget(self, organisation_id: UUID) -> None:
        """The provider refused it: ask again before it is used again."""
        self._known.pop(organisation_id, None)

    def fetched_seconds(self, organisation_id: UUID) -> float:
        """When the account that is known was asked for, on `time.monotonic`."""
        known = self._known.get(organisation_id)
        return known[0] if known else float("-inf")

    def _fresh(self, organisation_id: UUID) -> delivery_pb2.ProviderAccount | None:
        known = self._known.get(organisation_id)
        if known is None or time.monotonic() - known[0] > ACCOUNT_SECONDS_MAX:
            return None
        return known[1]

    async def _fetch(self, organisation_id: UUID) -> delivery_pb2.ProviderAccount:
        asked_seconds = time.monotonic()
        account = await self._stub.GetProviderAccount(
            delivery_pb2.GetProviderAccountRequest(
                organisation_id=str(organisation_id),
                channel=int(self._sends),  # type: ignore[arg-type]  # same numbers, held by a test
            ),
            metadata=self._metadata,
            timeout=CALL_SECONDS_MAX,
        )
        self._known[organisation_id] = (asked_seconds, account)
        self._known.move_to_end(organisation_id)
        if len(self._known) > ACCOUNTS_MAX:
            self._known.popitem(last=False)
        return account


class AttachmentFault(Exception):
    """What came is not the attachment that the content names, or none came: it was removed meanwhile.

    Nothing may be sent with it. Fetched again, content and attachment may fit.
    """


@dataclass(frozen=True, slots=True)
class _Kept(Generic[PreparedT]):
    """`is_whole`: with its attachments. `size_bytes`: of what it was made of."""

    account: delivery_pb2.ProviderAccount
    prepared: PreparedT
    is_whole: bool
    size_bytes: int


class PreparedCampaigns(Generic[PreparedT]):
    """Campaigns made ready to send, by content hash and account.

    Each is fetched once, whoever asks for it meanwhile. `bytes_max`: of what is kept.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        accounts: Accounts,
        provider: Provider[PreparedT],
        *,
        bytes_max: int = CONTENTS_BYTES_MAX,
    ) -> None:
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._accounts = accounts
        self._provider = provider
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], _Kept[PreparedT]] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def get(
        self,
        organisation_id: UUID,
        campaign_id: str,
        content_hash: str,
        *,
        for_sending: bool = True,
    ) -> PreparedT:
        """A campaign ready to send; without its attachments when it is not for sending.

        Raises grpc.aio.AioRpcError, AttachmentFault, CampaignNotSendable.
        """
        account = await self._accounts.get(organisation_id)
        key = (campaign_id, content_hash)
        known = self._known(key, account, for_sending)
        if known is not None:
            return known.prepared
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._known(key, account, for_sending)
            if known is None:
                known = await self._fetch(key, account, for_sending)
                self._keep(key, known)
            return known.prepared

    def _known(
        self, key: tuple[str, str], account: delivery_pb2.ProviderAccount, for_sending: bool
    ) -> _Kept[PreparedT] | None:
        known = self._kept.get(key)
        if known is None or (for_sending and not known.is_whole) or known.account != account:
            return None
        self._kept.move_to_end(key)
        return known

    def _keep(self, key: tuple[str, str], known: _Kept[PreparedT]) -> None:
        before = self._kept.pop(key, None)
        self._bytes += known.size_bytes - (before.size_bytes if before else 0)
        self._kept[key] = known
        while len(self._kept) > 1 and (
            len(self._kept) > CONTENTS_MAX or self._bytes > self._bytes_max
        ):
            self._bytes -= self._kept.popitem(last=False)[1].size_bytes

    async def _fetch(
        self, key: tuple[str, str], account: delivery_pb2.ProviderAccount, for_sending: bool
    ) -> _Kept[PreparedT]:
        campaign_id, content_hash = key
        content = await self._stub.GetCampaignContent(
            delivery_pb2.GetCampaignContentRequest(
                campaign_id=campaign_id, content_hash=content_hash
            ),
            metadata=self._metadata,
            timeout=CALL_SECONDS_MAX,
        )
        attachments: Sequence[bytes] = ()
        if for_sending:
            attachments = [
                await self._attachment(campaign_id, attachment)
                for attachment in content.attachments
            ]
        return _Kept(
            account=account,
            prepared=self._provider.prepare(content, account, attachments),
            is_whole=for_sending or not content.attachments,
            size_bytes=content.ByteSize() + sum(map(len, attachments)),
        )

    async def _attachment(
        self, campaign_id: str, attachment: delivery_pb2.ContentAttachment
    ) -> bytes:
        """One attachment, as the content describes it. Raises AttachmentFault."""
        body = bytearray()
        digest = hashlib.sha256()
        request = delivery_pb2.GetAttachmentRequest(
            campaign_id=campaign_id, attachment_id=attachment.id
        )
        call = self._stub.GetAttachment(
            request, metadata=self._metadata, timeout=ATTACHMENT_SECONDS_MAX
        )
        try:
            async for response in call:
                body += response.chunk
                digest.update(response.chunk)
                if len(body) > attachment.size_bytes:
                    call.cancel()
                    break
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise AttachmentFault("ATTACHMENT_NOT_FOUND") from error
            raise
        if len(body) != attachment.size_bytes:
            raise AttachmentFault("ATTACHMENT_SIZE_DIFFERS")
        if digest.hexdigest() != attachment.sha256:
            raise AttachmentFault("ATTACHMENT_CHECKSUM_DIFFERS")
        return bytes(body)
