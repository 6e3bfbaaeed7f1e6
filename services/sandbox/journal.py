"""An append-only file of JSON lines: what the sandbox must not forget when it is killed.

A line is handed to the kernel in one write before the answer it belongs to, so it survives the
death of the process; there is no fsync, since a power failure is no case for a test double.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

# Most records are a few hundred bytes; those of emails may have many megabytes.
_READ_BYTES = 1 << 10
_READ_GROWTH = 1 << 6


class Journal:
    """Records are lists of JSON values; a record is found again by the offset that `append` gave.

    Without a path the file has no name and ends with the process.
    """

    def __init__(self, path: Path | None) -> None:
        if path is None:
            # No context manager: the journal lives as long as the process.
            descriptor, name = tempfile.mkstemp(prefix="sandbox-journal-")
            Path(name).unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._descriptor = descriptor
        self._end = 0

    def replay(self) -> Iterator[tuple[int, list[Any]]]:
        """Every whole record with its offset; once, before appending. Cuts off a torn last line."""
        offset = 0
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield offset, orjson.loads(line)
                offset += len(line)
        os.ftruncate(self._descriptor, offset)
        self._end = offset

    def append(self, record: list[Any]) -> int:
        """The offset of the record, which the kernel has.

        Raises:
            OSError: it could not be written; nothing of it stays.
        """
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        offset = self._end
        if os.pwrite(self._descriptor, line, offset) != len(line):
            os.ftruncate(self._descriptor, offset)
            raise OSError("the journal's disk is full")
        self._end = offset + len(line)
        return offset

    def read(self, offset: int) -> list[Any]:
        """The record at an offset given by `append` or `replay`."""
        size = _READ_BYTES
        line = os.pread(self._descriptor, size, offset)
        while b"\n" not in line:
            if len(line) < size:
                raise ValueError(f"no whole record at {offset}")
            size *= _READ_GROWTH
            line = os.pread(self._descriptor, size, offset)
        record: list[Any] = orjson.loads(line[: line.index(b"\n")])
        return record

    def clear(self) -> None:
        """Forget everything."""
        os.ftruncate(self._descriptor, 0)
        self._end = 0

    def close(self) -> None:
        os.close(self._descriptor)
