"""The webhook inbox: verified webhooks are stored in JetStream, then answered, then forwarded.

Webhooks that arrive together are stored together: one publish and one acknowledgement for many. An
entry holds ids and codes; a recipient only where the webhook is about nobody's attempt (an opt-out).
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import orjson
import structlog
from nats.aio.msg import Msg

from outreach.internal.v1 import delivery_pb2
from outreach.jetstream.connection import NATS_FAULTS
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import NotStored, Publisher
from outreach.sending.attempt_token import AttemptId
from outreach.sending.outcomes import AttemptOutcome
from outreach.sending.reporter import Reporter
from outreach.sending.stream import DeliveryStream

#: Entries in one stored message.
ENTRIES_MAX: Final = 250
#: Entries that wait to be stored; more are refused (the provider tries again).
WAITING_MAX: Final = 5_000
#: Publishes under way at once.
PUBLISHES_MAX: Final = 4
#: Ids of entries stored lately; a repetition of one of them is answered without storing it again.
REMEMBERED_MAX: Final = 20_000
FETCH_MAX: Final = 16
FETCH_WAIT_SECONDS: Final = 2.0
#: Forwarded messages that wait for their commit.
FORWARDED_MAX: Final = 256
#: Message numbers and attempts are int32 wherever they go.
NUMBER_MAX: Final = 2**31 - 1
#: Seconds since 1970; the year 9999, where dates end.
TIME_MAX: Final = 253_402_300_799

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One verified webhook. `attempt`: what it is about; None for an inbound message.

    `fields` are the provider's own, only those that are needed.
    """

    organisation_id: UUID
    attempt: AttemptId | None
    fields: Mapping[str, str]
    time: datetime

    def encode(self) -> dict[str, object]:
        """As it is stored."""
        entry: dict[str, object] = {
            "organisation_id": str(self.organisation_id),
            "fields": dict(self.fields),
            "time": self.time.timestamp(),
        }
        if self.attempt is not None:
            entry["campaign_id"] = str(self.attempt.campaign_id)
            entry["number"] = self.attempt.number
            entry["attempt"] = self.attempt.attempt
        return entry

    @classmethod
    def decode(cls, raw: Mapping[str, object]) -> "InboxEntry":
        """Raises ValueError, KeyError or TypeError for anything that is not an entry.

        One that got through would come again and again, and take every sender down with it.
        """
        organisation_id = UUID(str(raw["organisation_id"]))
        fields, time = raw["fields"], raw["time"]
        if not isinstance(fields, dict) or not isinstance(time, int | float):
            raise TypeError("not an inbox entry")
        if not all(isinstance(value, str) for value in fields.values()):
            raise TypeError("a form's fields are texts")
        if not 0 <= time <= TIME_MAX:
            raise ValueError("no time of a webhook")
        attempt = None
        if "campaign_id" in raw:
            number, attempt_number = int(str(raw["number"])), int(str(raw["attempt"]))
            if not (0 < number <= NUMBER_MAX and 0 < attempt_number <= NUMBER_MAX):
                raise ValueError("no attempt has this number")
            attempt = AttemptId(
                organisation_id, UUID(str(raw["campaign_id"])), number, attempt_number
            )
        return cls(organisation_id, attempt, fields, datetime.fromtimestamp(time, UTC))


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: InboxEntry
    entry_id: str
    stored: asyncio.Future[None]


class Inbox:
    """Where webhooks are stored."""

    def __init__(self, publisher: Publisher, subject: str) -> None:
        self._publisher = publisher
        self._subject = subject
        self._waiting: list[_Waiting] = []
        self._filled = asyncio.Event()
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._publishing = asyncio.Semaphore(PUBLISHES_MAX)

    async def store(self, entry: InboxEntry, *, entry_id: str) -> None:
        """Returns when the entry is stored. Raises NotStored when that is not certain.

        `entry_id` is the same when the provider repeats a webhook.
        """
        if entry_id in self._remembered:
            return
        if len(self._waiting) >= WAITING_MAX:
            raise NotStored("too many wait")
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(entry, entry_id, stored))
        self._filled.set()
        await stored

    async def run(self) -> None:
        """Store what comes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._filled.wait()
                # while others are being stored, more gather: load makes the batches
                await self._publishing.acquire()
                batch, self._waiting = self._waiting[:ENTRIES_MAX], self._waiting[ENTRIES_MAX:]
                if not self._waiting:
                    self._filled.clear()
                tasks.create_task(self._publish(batch))

    async def _publish(self, batch: list[_Waiting]) -> None:
        try:
            digest = hashlib.sha256("\0".join(item.entry_id for item in batch).encode())
            await self._publisher.publish(
                self._subject,
                orjson.dumps([item.entry.encode() for item in batch]),
                message_id=digest.hexdigest()[:32],
            )
        except NotStored as error:
            _log.warning("inbox_not_stored", entries=len(batch), error=str(error))
            for item in batch:
                if not item.stored.done():
                    item.stored.set_exception(NotStored(str(error)))
        else:
            for item in batch:
                self._remembered[item.entry_id] = None
                if not item.stored.done():
                    item.stored.set_result(None)
            while len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        finally:
            self._publishing.release()


#: What an entry means: an outcome of its attempt, an opt-out, or nothing.
Interpret = Callable[[InboxEntry], AttemptOutcome | delivery_pb2.OptOut | None]


class Forwarder:
    """Turns stored webhooks into reports; an entry is acknowledged after its report's commit."""

    def __init__(
        self,
        consumer: PullConsumer,
        stream: DeliveryStream,
        reporter: Reporter,
        interpret: Interpret,
    ) -> None:
        self._consumer = consumer
        self._stream = stream
        self._reporter = reporter
        self._interpret = interpret
        self._forwarded: asyncio.Queue[tuple[Msg, int]] = asyncio.Queue(FORWARDED_MAX)

    async def run(self) -> None:
        """Forward for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forward())
            tasks.create_task(self._acknowledge())

    async def _forward(self) -> None:
        while True:
            await self._stream.connected()
            await self._reporter.room()
            for message in await self._consumer.fetch(FETCH_MAX, wait_seconds=FETCH_WAIT_SECONDS):
                await self._forwarded.put((message, self._submit(message)))

    def _submit(self, message: Msg) -> int:
        through = 0
        outcomes: dict[str, list[AttemptOutcome]] = {}
        try:
            entries = [InboxEntry.decode(raw) for raw in orjson.loads(message.data)]
            meanings = [(entry, self._interpret(entry)) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            _log.error("inbox_entry_malformed", error=type(error).__name__)
            return 0
        for entry, meaning in meanings:
            if isinstance(meaning, delivery_pb2.OptOut):
                through = self._reporter.submit_opt_out(meaning)
            elif meaning is not None and entry.attempt is not None:
                outcomes.setdefault(str(entry.attempt.campaign_id), []).append(meaning)
        for campaign_id, learned in outcomes.items():
            through = self._reporter.submit(campaign_id, learned, journaled=False)
        return through

    async def _acknowledge(self) -> None:
        while True:
            message, through = await self._forwarded.get()
            await self._reporter.acked_through(through)
            try:
                await message.ack()
            except NATS_FAULTS as error:
                # it comes again, and its reports are repeated: harmless
                _log.warning("inbox_ack_failed", error=type(error).__name__)
