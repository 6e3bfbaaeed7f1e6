"""The webhook inbox: verified webhooks are stored in JetStream, then answered, then forwarded.

Webhooks that arrive together are stored together: one publish and one acknowledgement for many. An
entry holds ids and codes; a recipient only where the webhook is about nobody's attempt (an opt-out).
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import orjson
import structlog
from nats.aio.msg import Msg

from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2
from outreach.jetstream.connection import NATS_FAULTS
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import NotStored, Publisher
from outreach.jetstream.topology import INBOX_ACK_WAIT_SECONDS
from outreach.sending.attempt_token import AttemptId
from outreach.sending.outcomes import AttemptOutcome
from outreach.sending.reporter import Reporter
from outreach.sending.seen_ids import SeenIds
from outreach.sending.stream import DeliveryStream

#: Entries in one stored message.
ENTRIES_MAX: Final = 1_000
#: Length of one stored message; NATS takes 1 MB unless told otherwise. (An entry has about 250 bytes.)
MESSAGE_BYTES_MAX: Final = 768 * 1024
#: While so many entries wait to be stored, more are refused (the provider tries again).
WAITING_MAX: Final = 50_000
#: Publishes under way at once.
PUBLISHES_MAX: Final = 4
#: Ids of entries stored lately; a repetition of one of them is answered without storing it again.
REMEMBERED_MAX: Final = 100_000
FETCH_MAX: Final = 16
FETCH_WAIT_SECONDS: Final = 2.0
#: Forwarded messages that wait for their commit.
FORWARDED_MAX: Final = 256
#: Message numbers and attempts are int32 wherever they go.
NUMBER_MAX: Final = 2**31 - 1
#: Seconds since 1970; the year 9999, where dates end.
TIME_MAX: Final = 253_402_300_799
_IDS_KEPT_MAX: Final = 4_096

_log = structlog.get_logger(__name__)


@lru_cache(maxsize=_IDS_KEPT_MAX)
def _uuid(raw: object) -> UUID:
    return UUID(str(raw))


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One verified webhook, or one event of many in it.

    `attempt`: what it is about; None for what is about none: an inbound message, an unsubscribe
    link. `fields` are the provider's own, only those that are needed.
    """

    organisation_id: UUID
    attempt: AttemptId | None
    fields: Mapping[str, str]
    time: datetime

    def encode(self) -> dict[str, object]:
        """As orjson is to store it."""
        entry: dict[str, object] = {
            "organisation_id": self.organisation_id,
            "fields": self.fields,
            "time": self.time.timestamp(),
        }
        if self.attempt is not None:
            entry["campaign_id"] = self.attempt.campaign_id
            entry["number"] = self.attempt.number
            entry["attempt"] = self.attempt.attempt
        return entry

    @classmethod
    def decode(cls, raw: Mapping[str, object]) -> "InboxEntry":
        """Raises ValueError, KeyError or TypeError for anything that is not an entry.

        One that got through would come again and again, and take every sender down with it.
        """
        organisation_id = _uuid(raw["organisation_id"])
        fields, time = raw["fields"], raw["time"]
        if not isinstance(fields, dict) or not isinstance(time, int | float):
            raise TypeError("not an inbox entry")
        for value in fields.values():
            if not isinstance(value, str):
                raise TypeError("a webhook's fields are texts")
        if not 0 <= time <= TIME_MAX:
            raise ValueError("no time of a webhook")
        attempt = None
        if "campaign_id" in raw:
            number, attempt_number = raw["number"], raw["attempt"]
            if not isinstance(number, int) or not isinstance(attempt_number, int):
                raise TypeError("attempts are numbered")
            if not (0 < number <= NUMBER_MAX and 0 < attempt_number <= NUMBER_MAX):
                raise ValueError("no attempt has this number")
            attempt = AttemptId(organisation_id, _uuid(raw["campaign_id"]), number, attempt_number)
        return cls(organisation_id, attempt, fields, datetime.fromtimestamp(time, UTC))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Entries that are stored together, with all others that fit into the same message.

    `payload` is a JSON array. `ids` are those of entries that have one.
    """

    payload: bytes
    entries: int
    ids: Sequence[str]
    stored: asyncio.Future[None]

    @property
    def key(self) -> bytes:
        """The same when the provider repeats the entries."""
        return "\0".join(self.ids).encode() if len(self.ids) == self.entries else self.payload


def _pieces(items: Sequence[tuple[str, InboxEntry]]) -> Iterator[_Piece]:
    for first in range(0, len(items), ENTRIES_MAX):
        yield from _fitting(items[first : first + ENTRIES_MAX])


def _fitting(items: Sequence[tuple[str, InboxEntry]]) -> Iterator[_Piece]:
    """Halved as often as the length asks for; an entry that is too long alone is NATS's to refuse."""
    payload = orjson.dumps([entry.encode() for _, entry in items])
    if len(payload) > MESSAGE_BYTES_MAX and len(items) > 1:
        half = len(items) // 2
        yield from _fitting(items[:half])
        yield from _fitting(items[half:])
        return
    ids = [entry_id for entry_id, _ in items if entry_id]
    yield _Piece(payload, len(items), ids, asyncio.get_running_loop().create_future())


class Inbox:
    """Where webhooks are stored."""

    def __init__(self, publisher: Publisher, subject: str) -> None:
        self._publisher = publisher
        self._subject = subject
        self._waiting: deque[_Piece] = deque()
        self._entries_waiting = 0
        self._filled = asyncio.Event()
        self._remembered = SeenIds(REMEMBERED_MAX)
        self._publishing = asyncio.Semaphore(PUBLISHES_MAX)

    async def store(self, entry: InboxEntry, *, entry_id: str) -> None:
        """Returns when the entry is stored. Raises NotStored when that is not certain.

        `entry_id` is the same when the provider repeats a webhook; empty: store it in any case.
        """
        await self.store_many([(entry_id, entry)])

    async def store_many(self, items: Sequence[tuple[str, InboxEntry]]) -> int:
        """Store entries, each with its id; one future for all. Returns when all are stored.

        Returns how many there were beside those stored before. Raises NotStored when it is not
        certain that all are: what comes again is then stored again, which is harmless.
        """
        fresh = [item for item in items if not item[0] or item[0] not in self._remembered]
        if not fresh:
            return 0
        if self._entries_waiting >= WAITING_MAX:
            raise NotStored("too many wait")
        pieces = list(_pieces(fresh))
        self._waiting.extend(pieces)
        self._entries_waiting += len(fresh)
        self._filled.set()
        await asyncio.gather(*(piece.stored for piece in pieces))
        reached("webhook-stored")
        return len(fresh)

    def knows(self, entry_id: str) -> bool:
        """Whether an entry of this id was taken lately: what has it now is a repetition."""
        return entry_id in self._remembered

    def remember(self, entry_id: str) -> None:
        """What has this id is settled without being stored."""
        self._remembered.add([entry_id])

    async def run(self) -> None:
        """Store what comes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._filled.wait()
                # while others are being stored, more gather: load makes the batches
                await self._publishing.acquire()
                batch = self._next_batch()
                if not self._waiting:
                    self._filled.clear()
                tasks.create_task(self._publish(batch))

    def _next_batch(self) -> list[_Piece]:
        batch: list[_Piece] = []
        entries = size_bytes = 0
        while self._waiting:
            piece = self._waiting[0]
            entries += piece.entries
            size_bytes += len(piece.payload)
            if batch and (entries > ENTRIES_MAX or size_bytes > MESSAGE_BYTES_MAX):
                break
            batch.append(self._waiting.popleft())
            self._entries_waiting -= piece.entries
        return batch

    async def _publish(self, batch: list[_Piece]) -> None:
        try:
            digest = hashlib.sha256(b"\0".join(piece.key for piece in batch))
            await self._publisher.publish(
                self._subject,
                b"[" + b",".join(piece.payload[1:-1] for piece in batch) + b"]",
                message_id=digest.hexdigest()[:32],
            )
        except NotStored as error:
            entries = sum(piece.entries for piece in batch)
            _log.warning("inbox_not_stored", entries=entries, error=str(error))
            for piece in batch:
                if not piece.stored.done():
                    piece.stored.set_exception(NotStored(str(error)))
        else:
            for piece in batch:
                self._remembered.add(piece.ids)
                if not piece.stored.done():
                    piece.stored.set_result(None)
        finally:
            self._publishing.release()


#: What an entry means: an outcome of its attempt, an opt-out, or nothing. Raises ValueError, KeyError
#: or TypeError for an entry that is none of its channel's.
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
        #: Taken from JetStream and not acknowledged; by identity, as messages have no hash.
        self._held: dict[int, Msg] = {}

    async def run(self) -> None:
        """Forward for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forward())
            tasks.create_task(self._acknowledge())
            tasks.create_task(self._hold())

    async def _forward(self) -> None:
        while True:
            await self._stream.connected()
            await self._reporter.room()
            messages = await self._consumer.fetch(FETCH_MAX, wait_seconds=FETCH_WAIT_SECONDS)
            self._held |= {id(message): message for message in messages}
            for message in messages:
                await self._reporter.room()
                await self._forwarded.put((message, self._submit(message)))
                await asyncio.sleep(0)  # a thousand entries take a while: others come between

    def _submit(self, message: Msg) -> int:
        """Report what a message holds; the batch that its last report is in."""
        through = malformed = 0
        outcomes: dict[UUID, list[AttemptOutcome]] = {}
        for raw in _entries(message.data):
            try:
                entry = InboxEntry.decode(raw)
                meaning = self._interpret(entry)
            except (ValueError, KeyError, TypeError):
                malformed += 1  # it would be so the next time too; the others are not to blame
                continue
            if isinstance(meaning, delivery_pb2.OptOut):
                through = self._reporter.submit_opt_out(meaning)
            elif meaning is not None and entry.attempt is not None:
                outcomes.setdefault(entry.attempt.campaign_id, []).append(meaning)
        for campaign_id, learned in outcomes.items():
            through = self._reporter.submit(str(campaign_id), learned, journaled=False)
        if malformed:
            _log.error("inbox_entry_malformed", entries=malformed)
        return through

    async def _acknowledge(self) -> None:
        while True:
            message, through = await self._forwarded.get()
            await self._reporter.acked_through(through)
            reached("inbox-before-ack")
            self._held.pop(id(message), None)
            try:
                await message.ack()
            except NATS_FAULTS as error:
                # it comes again, and its reports are repeated: harmless
                _log.warning("inbox_ack_failed", error=type(error).__name__)

    async def _hold(self) -> None:
        """While commits are slow, say that we are at it: else all would come again, and slow them more.

        Without a stream nothing is held: another sender may have one.
        """
        while True:
            await asyncio.sleep(INBOX_ACK_WAIT_SECONDS / 3)
            for message in [*self._held.values()] if self._stream.is_connected else []:
                try:
                    await message.in_progress()
                except NATS_FAULTS:
                    break  # told by whoever needs the connection


def _entries(data: bytes) -> list[Mapping[str, object]]:
    """The entries of a stored message; what is no list of them becomes one that is malformed."""
    try:
        raw = orjson.loads(data)
    except ValueError:
        return [{}]
    return raw if isinstance(raw, list) else [{}]
