"""A process's output on disk: bounded, with the end of it at hand for an error message."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_TAIL_BYTES_MAX = 16_384


class ProcessLog:
    """Appends to `path`; at `bytes_max` the file becomes `<path>.1`, replacing the one before.

    So one process never takes more than twice `bytes_max` of disk.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self.path = path
        self._put_aside = path.with_name(f"{path.name}.1")
        self._bytes_max = bytes_max
        self._file = path.open("ab", buffering=0)
        self._bytes = self._file.tell()

    def write(self, chunk: bytes) -> None:
        """Append `chunk`, whole, to one file."""
        if self._bytes > 0 and self._bytes + len(chunk) > self._bytes_max:
            self._file.close()
            self.path.replace(self._put_aside)
            self._file = self.path.open("ab", buffering=0)
            self._bytes = 0
        self._file.write(chunk)
        self._bytes += len(chunk)

    def last_lines(self, lines_max: int = 20) -> Sequence[str]:
        """The last lines written, also those in the file that was just put aside."""
        tail = _end_of(self.path)
        if len(tail) < _TAIL_BYTES_MAX and self._put_aside.exists():
            tail = _end_of(self._put_aside) + tail
        return tail.decode(errors="replace").splitlines()[-lines_max:]

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._file.close()


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES_MAX))
        return file.read()
