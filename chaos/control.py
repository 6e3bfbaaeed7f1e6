"""How a fault reaches into a process that runs: small files in a directory of that process alone.

Each file is replaced as a whole, so a reader sees all of it or nothing. They outlive the process: a clock that
is wrong stays wrong after a restart, a crash that has happened does not happen again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

CONTROL_VARIABLE = "OUTREACH_CHAOS_CONTROL_DIR"
BREAK_VARIABLE = "OUTREACH_CHAOS_BREAK"


@dataclass(frozen=True, slots=True)
class Crash:
    """A death at the `nth` time that a point is reached, counted from when it was armed."""

    point: str
    nth: int


class Control:
    """One process's control directory, as the fault sees it and as the process does."""

    def __init__(self, directory: Path) -> None:
        self._armed = directory / "crash.json"
        self._dying = directory / "dying.json"
        self._crashed = directory / "crashed.json"
        self._clock = directory / "clock.json"
        directory.mkdir(parents=True, exist_ok=True)

    # The fault's side

    def arm(self, crash: Crash) -> None:
        """The process is to die there; what was armed before is not any more."""
        self._crashed.unlink(missing_ok=True)
        _replace(self._armed, {"point": crash.point, "nth": crash.nth})

    def disarm(self) -> None:
        """Nothing is to happen any more."""
        self._armed.unlink(missing_ok=True)

    def crashed_pid(self) -> int | None:
        """The id of the process that died at the point since it was armed; None: it did not."""
        try:
            return int(json.loads(self._crashed.read_text())["pid"])
        except FileNotFoundError:
            return None

    def set_clock(self, shift_seconds: float) -> None:
        """The process's wall clock is so far ahead of the machine's."""
        _replace(self._clock, {"shift_seconds": shift_seconds})

    # The process's side

    def armed(self) -> Crash | None:
        """Where to die, if anywhere."""
        try:
            crash = json.loads(self._armed.read_text())
        except FileNotFoundError:
            return None
        return Crash(crash["point"], crash["nth"])

    def note_crash(self) -> bool:
        """To be called right before the death; False: it was disarmed meanwhile, so there is to be none."""
        try:
            self._armed.rename(self._dying)
        except FileNotFoundError:
            return False
        _replace(self._crashed, {"pid": os.getpid()})
        return True

    def clock_shift_seconds(self) -> float:
        """How far the wall clock is to be ahead of the machine's."""
        try:
            return float(json.loads(self._clock.read_text())["shift_seconds"])
        except FileNotFoundError:
            return 0.0


def _replace(path: Path, value: object) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.new")
    unfinished.write_text(json.dumps(value))
    unfinished.replace(path)
