"""A sender's memory across a kill: which requests had begun, and which reports are not acknowledged.

Each process appends to a file of its own and holds a lock on it while it lives. A request is
journaled before its first byte can leave, so that of a dead process it is known what may have gone
out; all else it had claimed was certainly never sent. A write reaches the page cache and survives
the process, not a power failure: the boot id tells the two apart (`outreach.sending.adoption`).

Record: CRC-32 of the rest, length of the payload, kind, payload. Reading ends at the first record
that is not whole: that write was under way when the process died.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final
from uuid import UUID

import uuid_utils

from outreach.internal.v1 import delivery_pb2

JOURNAL_SUFFIX: Final = ".journal"
#: A journal that is being written and has no name yet.
UNFINISHED_SUFFIX: Final = ".new"
#: A larger file is written anew with only what is still open.
JOURNAL_BYTES_MAX: Final = 4 * 1024 * 1024
#: A record says it is larger than this: the file is broken there.
RECORD_BYTES_MAX: Final = 4 * 1024 * 1024
#: Attempts in one record of a file that is written anew.
SNAPSHOT_ATTEMPTS_MAX: Final = 10_000

_HEAD: Final = struct.Struct(">IIB")
_BODY_HEAD: Final = struct.Struct(">IB")
_ATTEMPTS: Final = struct.Struct(">H16s")
_ATTEMPT: Final = struct.Struct(">II")
_INSTANCE: Final = struct.Struct(">H16s")
_INDEX: Final = struct.Struct(">H")
_BATCH: Final = struct.Struct(">Q")

_PROCESS, _INSTANCE_OPENED, _BEGUN, _NOT_CREATED, _REPORTS, _ACKED, _INSTANCE_ENDED = range(1, 8)

#: A message's attempt: campaign (16 bytes), number, attempt.
AttemptKey = tuple[bytes, int, int]


def boot_id() -> str:
    """What changes with every start of the machine: the kernel's id, or the boot time."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        import psutil  # not needed on Linux

        return f"boot-time-{int(psutil.boot_time())}"


@dataclass
class JournalState:
    """What a journal says is still open.

    `instances`: stream instances not known as ended, by index. `begun`: attempts without outcome,
    with the index of the instance that claimed them. `batches`: unacknowledged reports
    (serialised ReportBatch) in order.
    """

    boot_id: str = ""
    instances: dict[int, UUID] = field(default_factory=dict)
    begun: dict[AttemptKey, int] = field(default_factory=dict)
    batches: dict[int, bytes] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Nothing is left that anyone would have to be told."""
        return not self.instances and not self.batches


def read_journal(data: bytes) -> JournalState:
    """The state at the end of a journal's bytes; a torn last record is left out."""
    state = JournalState()
    for kind, payload in _records(data):
        _apply(state, kind, payload)
    return state


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEAD.size <= len(data):
        checksum, length, kind = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + length
        if length > RECORD_BYTES_MAX or end > len(data):
            return
        if zlib.crc32(data[position + 4 : end]) != checksum:
            return
        yield kind, data[position + _HEAD.size : end]
        position = end


def _apply(state: JournalState, kind: int, payload: bytes) -> None:
    if kind in (_BEGUN, _NOT_CREATED):
        index, campaign = _ATTEMPTS.unpack_from(payload)
        for number, attempt in _ATTEMPT.iter_unpack(payload[_ATTEMPTS.size :]):
            if kind == _BEGUN:
                state.begun[campaign, number, attempt] = index
            else:
                state.begun.pop((campaign, number, attempt), None)
    elif kind == _REPORTS:
        body = payload[_BATCH.size :]
        state.batches[_BATCH.unpack_from(payload)[0]] = body
        for key in reported_attempts(delivery_pb2.ReportBatch.FromString(body)):
            state.begun.pop(key, None)
    elif kind == _ACKED:
        through = _BATCH.unpack(payload)[0]
        state.batches = {n: body for n, body in state.batches.items() if n > through}
    elif kind == _INSTANCE_OPENED:
        index, raw = _INSTANCE.unpack(payload)
        state.instances[index] = UUID(bytes=raw)
    elif kind == _INSTANCE_ENDED:
        ended = _INDEX.unpack(payload)[0]
        state.instances.pop(ended, None)
        # whatever it had begun is known to the campaign service by now
        state.begun = {key: index for key, index in state.begun.items() if index != ended}
    elif kind == _PROCESS:
        state.boot_id = payload.decode()


def reported_attempts(batch: delivery_pb2.ReportBatch) -> Iterator[AttemptKey]:
    """The attempts that have a report in the batch."""
    for campaign in batch.campaigns:
        campaign_id = UUID(campaign.campaign_id).bytes
        for report in campaign.reports:
            yield campaign_id, report.number, report.attempt


class Journal:
    """The journal of this process. Not for use from several threads.

    Every method writes at once (one `write`, a few microseconds) and raises OSError when the disk
    does not take it: then what was to be journaled must not happen.
    """

    def __init__(self, directory: Path, *, bytes_max: int = JOURNAL_BYTES_MAX) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._bytes_max = bytes_max
        self._state = JournalState(boot_id=boot_id())
        self._next_index = 0
        self._path, self._file, self._size = self._write_new()

    @property
    def path(self) -> Path:
        """The file; another one after it was written anew."""
        return self._path

    def open_instance(self, instance_id: UUID) -> int:
        """Claims may be asked for as this instance from now on. Returns its index for `begun`."""
        taken = self._state.instances
        while self._next_index in taken:
            self._next_index = (self._next_index + 1) % 65_536
        index = self._next_index
        self._next_index = (index + 1) % 65_536
        self._append(_INSTANCE_OPENED, _INSTANCE.pack(index, instance_id.bytes))
        self._state.instances[index] = instance_id
        return index

    def instance_ended(self, index: int) -> None:
        """The campaign service knows that the instance is over."""
        self._append(_INSTANCE_ENDED, _INDEX.pack(index))
        self._state.instances.pop(index, None)

    def begun(self, index: int, campaign_id: bytes, attempts: Sequence[tuple[int, int]]) -> None:
        """The request of these attempts (number, attempt) is about to leave: all of them or none."""
        self._append(_BEGUN, _attempts(index, campaign_id, attempts))
        for number, attempt in attempts:
            self._state.begun[campaign_id, number, attempt] = index

    def not_created(
        self, index: int, campaign_id: bytes, attempts: Sequence[tuple[int, int]]
    ) -> None:
        """The request that had begun certainly created nothing; they may begin again."""
        self._append(_NOT_CREATED, _attempts(index, campaign_id, attempts))
        for number, attempt in attempts:
            self._state.begun.pop((campaign_id, number, attempt), None)

    def reports(self, batch_id: int, batch: delivery_pb2.ReportBatch) -> None:
        """A batch of reports is about to be sent. Batch ids grow by one."""
        body = batch.SerializeToString()
        self._append(_REPORTS, _BATCH.pack(batch_id) + body)
        self._state.batches[batch_id] = body
        for key in reported_attempts(batch):
            self._state.begun.pop(key, None)

    def acked(self, batch_id: int) -> None:
        """All batches up to this one are committed."""
        batches = self._state.batches
        done = [n for n in batches if n <= batch_id]
        if not done:
            return
        self._append(_ACKED, _BATCH.pack(batch_id))
        for n in done:
            del batches[n]
        if self._size > self._bytes_max:
            self._rewrite()

    def close(self) -> None:
        """Give the lock back; the file goes when nothing is open in it."""
        if self._state.is_done:
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _append(self, kind: int, payload: bytes) -> None:
        record = _record(kind, payload)
        written = os.write(self._file, record)
        if written != len(record):
            # what follows a torn record is not read: cut it off
            os.ftruncate(self._file, self._size)
            raise OSError("the journal took only a part of a record")
        self._size += written

    def _rewrite(self) -> None:
        old_path, old_file = self._path, self._file
        self._path, self._file, self._size = self._write_new()
        # Killed between the two steps: both files say the same, so both may be adopted. But one
        # that can't be removed must not go on saying it: all that begins later would be missing.
        os.ftruncate(old_file, 0)
        try:
            old_path.unlink(missing_ok=True)
        finally:
            os.close(old_file)

    def _write_new(self) -> tuple[Path, int, int]:
        """A journal of the current state, locked before anyone can see it under its name."""
        name = str(uuid_utils.uuid7())
        hidden = self._directory / f".{name}{UNFINISHED_SUFFIX}"
        final = self._directory / f"{name}{JOURNAL_SUFFIX}"
        data = _snapshot(self._state)
        file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with memoryview(data) as rest:
                written = 0
                while written < len(data):
                    written += os.write(file, rest[written:])
            hidden.rename(final)
        except OSError:
            os.close(file)
            hidden.unlink(missing_ok=True)
            raise
        return final, file, len(data)


def _record(kind: int, payload: bytes) -> bytes:
    body = _BODY_HEAD.pack(len(payload), kind) + payload
    return zlib.crc32(body).to_bytes(4, "big") + body


def _attempts(index: int, campaign_id: bytes, attempts: Sequence[tuple[int, int]]) -> bytes:
    numbers = struct.pack(f">{2 * len(attempts)}I", *chain.from_iterable(attempts))
    return _ATTEMPTS.pack(index, campaign_id) + numbers


def _snapshot(state: JournalState) -> bytes:
    records = [_record(_PROCESS, state.boot_id.encode())]
    records += [
        _record(_INSTANCE_OPENED, _INSTANCE.pack(index, instance_id.bytes))
        for index, instance_id in state.instances.items()
    ]
    records += [
        _record(_REPORTS, _BATCH.pack(batch_id) + body) for batch_id, body in state.batches.items()
    ]
    # after the reports: an attempt begun again after it was reported stays open
    begun: dict[tuple[int, bytes], list[tuple[int, int]]] = {}
    for (campaign_id, number, attempt), index in state.begun.items():
        begun.setdefault((index, campaign_id), []).append((number, attempt))
    records += [
        _record(_BEGUN, _attempts(*of, attempts[start : start + SNAPSHOT_ATTEMPTS_MAX]))
        for of, attempts in begun.items()
        for start in range(0, len(attempts), SNAPSHOT_ATTEMPTS_MAX)
    ]
    return b"".join(records)
