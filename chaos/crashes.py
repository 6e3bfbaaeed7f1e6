"""A process's own death at a crash point, when a fault has armed one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Final

from chaos.control import Control, Crash
from outreach.crash_points import CRASH_POINTS, CrashPoint

#: Whoever changes a campaign's messages comes by one of these right after its commit.
_AFTER_COMMIT: Final = frozenset({"claim-committed", "reports-committed", "sweep-committed"})
_COMPLETING: Final = "completion-before-commit"
_COMPLETED: Final = "completion-committed"

ARMABLE: Final[Mapping[str, CrashPoint]] = {
    **CRASH_POINTS,
    # No place of its own in the code: the first commit after a completion, in the same task.
    _COMPLETED: CrashPoint("campaign", "The last message is final, committed; nobody was told."),
}
"""Where a process can be made to die, by name."""


class CrashHook:
    """Counts how often the armed point is reached and ends the process at its time, by SIGKILL."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._armed: Crash | None = None
        self._left = 0
        self._completing: asyncio.Task[object] | None = None

    def follow(self, armed: Crash | None) -> None:
        """What is armed now; counting begins anew when that is another one."""
        if armed != self._armed:
            self._left = armed.nth if armed is not None else 0
            self._armed = armed

    def reached(self, point: str) -> None:
        """The hook of `outreach.crash_points`."""
        armed = self._armed
        if armed is None:
            return
        if armed.point != point and not (armed.point == _COMPLETED and self._completed(point)):
            return
        self._left -= 1
        if self._left <= 0 and self._control.note_crash():
            os.kill(os.getpid(), signal.SIGKILL)

    def _completed(self, point: str) -> bool:
        if point == _COMPLETING:
            self._completing = asyncio.current_task()
            return False
        if point not in _AFTER_COMMIT or self._completing is not asyncio.current_task():
            return False
        self._completing = None
        return True
