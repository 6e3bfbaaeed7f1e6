"""The knobs in force, kept over restarts."""

import os
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from services.sandbox.fates import Fates
from services.sandbox.knobs import Knobs
from services.sandbox.sendgrid.fates import EmailFates

_log = structlog.get_logger("sandbox")


class _Kept(BaseModel):
    initial: Knobs
    current: Knobs


class KnobStore:
    """Holds the knobs and their fates.

    With a path, knobs that were set while running outlive a restart, unless the process is started
    with other initial knobs than before: then those count.
    """

    def __init__(self, initial: Knobs, seed: str, path: Path | None) -> None:
        self._initial = initial
        self._path = path
        self.seed = seed
        current = initial
        if path is not None and path.exists():
            current = _kept_knobs(path, initial)
        self._put_in_force(current)

    @property
    def knobs(self) -> Knobs:
        return self.fates.knobs

    def set(self, knobs: Knobs) -> None:
        """Put these in force for messages accepted from now on."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            kept = _Kept(initial=self._initial, current=knobs)
            replace_file(self._path, kept.model_dump_json().encode())
        self._put_in_force(knobs)

    def _put_in_force(self, knobs: Knobs) -> None:
        self.fates = Fates(knobs, self.seed)
        self.email_fates = EmailFates(knobs.email, self.seed)


def _kept_knobs(path: Path, initial: Knobs) -> Knobs:
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except ValidationError as error:
        # Written by a version with other knobs.
        _log.warning("kept_knobs_ignored", problems=error.error_count())
        return initial
    return kept.current if kept.initial == initial else initial


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
