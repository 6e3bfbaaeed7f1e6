"""Unsubscribes that SendGrid is told too, where the account asks for it.

Who used an unsubscribe link is suppressed by us in any case. With `push_suppressions` their address is
also entered in SendGrid's global suppressions, so that it holds for whatever else the account sends.

Each is a stored message of its own, beside the inbox: it survives a kill, and holds up no report. It is
acknowledged when SendGrid has taken it (entering an address twice changes nothing), when there is
nothing to do, or when it was given up: tried again after 5 s, then after twice as long each time, at
most 10 minutes, for 24 hours.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import grpc.aio
import orjson
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import Publisher
from outreach.jetstream.topology import (
    INBOX_STREAM,
    ensure_topology,
    suppressions_consumer,
    suppressions_subject,
)
from outreach.sending.attempt_token import UnsubscribeId
from outreach.sending.contents import CALL_SECONDS_MAX, NO_ACCOUNT_CODES, Accounts
from outreach.sending.inbox import NUMBER_MAX
from outreach.sending.stream import Metadata
from outreach.vocabulary import Channel
from services.sender_email.addresses import as_sent
from services.sender_email.sendgrid_api import SendGridApi

SUPPRESSIONS_PATH: Final = "/v3/asm/suppressions/global"
#: Addresses in one request.
BATCH_MAX: Final = 100
FETCH_WAIT_SECONDS: Final = 5.0
RETRY_SECONDS_MIN: Final = 5.0
RETRY_SECONDS_MAX: Final = 600.0
GIVE_UP_AFTER_SECONDS: Final = 24 * 3600.0
#: The request is at fault: one of the addresses, or how many there are.
_REQUEST_REFUSED: Final = frozenset((400, 413, 422))
#: The key is: perhaps there is another one by now.
_KEY_REFUSED: Final = frozenset((401, 403))

_log = structlog.get_logger(__name__)


class SuppressionQueue:
    """Where recipients wait for it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def store(self, unsubscribe: UnsubscribeId, time: datetime) -> None:
        """Returns when it is stored. Raises NotStored when that is not certain."""
        campaign_id, number = unsubscribe.campaign_id, unsubscribe.number
        await self._publisher.publish(
            suppressions_subject(Channel.EMAIL),
            orjson.dumps(
                {
                    "organisation_id": unsubscribe.organisation_id,
                    "campaign_id": campaign_id,
                    "number": number,
                }
            ),
            message_id=f"suppression:{campaign_id}:{number}:{time.timestamp()}",
        )


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One message of the queue: the recipient of one email."""

    message: Msg
    organisation_id: UUID
    campaign_id: str
    number: int

    @classmethod
    def read(cls, message: Msg) -> "_Waiting":
        """Raises ValueError, KeyError or TypeError for anything else."""
        raw = orjson.loads(message.data)
        organisation_id, campaign_id = (
            UUID(str(raw[name])) for name in ("organisation_id", "campaign_id")
        )
        number = int(raw["number"])
        if not 0 < number <= NUMBER_MAX:
            raise ValueError("no message has this number")
        return cls(message, organisation_id, str(campaign_id), number)


class SuppressionPusher:
    """Takes recipients from the queue and enters them at SendGrid."""

    def __init__(
        self,
        *,
        nats: NatsConnection,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        accounts: Accounts,
        api: SendGridApi,
        retry_seconds_min: float = RETRY_SECONDS_MIN,
        give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    ) -> None:
        durable = suppressions_consumer(Channel.EMAIL).durable_name
        assert durable is not None
        self._consumer = PullConsumer(nats, stream=INBOX_STREAM, durable=durable, ensure=_ensure)
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._accounts = accounts
        self._api = api
        self._retry_seconds_min = retry_seconds_min
        self._give_up_after_seconds = give_up_after_seconds

    async def run(self) -> None:
        """Push for ever."""
        while True:
            by_organisation: dict[UUID, list[_Waiting]] = {}
            for message in await self._consumer.fetch(BATCH_MAX, wait_seconds=FETCH_WAIT_SECONDS):
                try:
                    waiting = _Waiting.read(message)
                except (ValueError, KeyError, TypeError):
                    _log.error("suppression_malformed")
                    await _acknowledge(message)
                    continue
                by_organisation.setdefault(waiting.organisation_id, []).append(waiting)
            # each by itself: one whose SendGrid is slow holds up no other for longer than a time-out
            async with asyncio.TaskGroup() as tasks:
                for organisation_id, all_waiting in by_organisation.items():
                    tasks.create_task(self._push(organisation_id, all_waiting))

    async def _push(self, organisation_id: UUID, waiting: Sequence[_Waiting]) -> None:
        try:
            account = (await self._accounts.get(organisation_id)).sendgrid
        except grpc.aio.AioRpcError as error:
            if error.code() in NO_ACCOUNT_CODES:
                await _done(waiting)
            else:
                await self._put_off(organisation_id, waiting, error.code().name)
            return
        if not account.push_suppressions:
            await _done(waiting)
            return
        by_recipient: dict[str, list[_Waiting]] = {}
        recipients = await asyncio.gather(*(self._recipient(one) for one in waiting))
        for one, recipient in zip(waiting, recipients, strict=True):
            if recipient is not None:
                by_recipient.setdefault(recipient, []).append(one)
        if by_recipient:
            await self._enter(organisation_id, account.api_key, by_recipient)

    async def _recipient(self, waiting: _Waiting) -> str | None:
        """The address; None when there is nothing to enter, or not yet."""
        request = delivery_pb2.GetRecipientRequest(
            campaign_id=waiting.campaign_id, number=waiting.number
        )
        try:
            answer = await self._stub.GetRecipient(
                request, metadata=self._metadata, timeout=CALL_SECONDS_MAX
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                await _done([waiting])  # the campaign is gone, and with it who it was
            else:
                await self._put_off(waiting.organisation_id, [waiting], error.code().name)
            return None
        return as_sent(answer.recipient)

    async def _enter(
        self, organisation_id: UUID, api_key: str, by_recipient: dict[str, list[_Waiting]]
    ) -> None:
        recipients = [*by_recipient]
        waiting = [one for same in by_recipient.values() for one in same]
        answer = await self._api.post(api_key, SUPPRESSIONS_PATH, {"recipient_emails": recipients})
        status = answer.status if answer is not None else None
        if status is not None and 200 <= status < 300:
            await _done(waiting)
            _log.info(
                "suppressions_pushed",
                organisation_id=str(organisation_id),
                recipients=len(recipients),
            )
        elif status in _REQUEST_REFUSED and len(recipients) > 1:
            half = len(recipients) // 2
            for part in (recipients[:half], recipients[half:]):
                await self._enter(
                    organisation_id, api_key, {name: by_recipient[name] for name in part}
                )
        elif status in _REQUEST_REFUSED:
            await _done(waiting)  # it will be refused the next time too
            _log.warning("suppression_refused", organisation_id=str(organisation_id), status=status)
        else:
            if status in _KEY_REFUSED:
                self._accounts.forget(organisation_id)
            await self._put_off(
                organisation_id, waiting, f"HTTP {status}" if status else "no answer"
            )

    async def _put_off(
        self, organisation_id: UUID, waiting: Sequence[_Waiting], cause: str
    ) -> None:
        now = datetime.now(UTC)
        given_up = []
        for one in waiting:
            metadata = one.message.metadata
            if (now - metadata.timestamp).total_seconds() > self._give_up_after_seconds:
                given_up.append(one)
                continue
            doubled = self._retry_seconds_min * 2 ** min(metadata.num_delivered - 1, 10)
            pause = min(RETRY_SECONDS_MAX, doubled) * random.uniform(0.5, 1.0)
            try:
                await one.message.nak(delay=pause)
            except NATS_FAULTS:
                break  # they come again by themselves
        await _done(given_up)
        _log.warning(
            "suppressions_put_off",
            organisation_id=str(organisation_id),
            recipients=len(waiting) - len(given_up),
            given_up=len(given_up),
            cause=cause,
        )


async def _ensure(jetstream: JetStreamContext) -> None:
    await ensure_topology(jetstream, (Channel.EMAIL,))


async def _done(waiting: Sequence[_Waiting]) -> None:
    for one in waiting:
        await _acknowledge(one.message)


async def _acknowledge(message: Msg) -> None:
    try:
        await message.ack()
    except NATS_FAULTS as error:
        _log.warning("suppression_ack_failed", error=type(error).__name__)
