"""A history as one JSON document, so that what a run saw can be kept, shown and checked again."""

from __future__ import annotations

import gzip
from pathlib import Path

from pydantic import TypeAdapter

from chaos.history import History

_DOCUMENT = TypeAdapter(History)


def write_history(history: History, path: Path) -> None:
    """Write it, compressed where the name ends in .gz. Raises OSError."""
    document = _DOCUMENT.dump_json(history)
    # Without a time in the header: the same history is the same file.
    path.write_bytes(gzip.compress(document, mtime=0) if path.suffix == ".gz" else document)


def read_history(path: Path) -> History:
    """What `write_history` has written. Raises OSError, ValueError (no history, or not of this version)."""
    document = path.read_bytes()
    return _DOCUMENT.validate_json(gzip.decompress(document) if path.suffix == ".gz" else document)
