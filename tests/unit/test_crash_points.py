"""The crash points: every one has its place in the code, and costs nothing where no hook is set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.control import Control, Crash
from chaos.crashes import ARMABLE, CrashHook
from outreach.crash_points import CRASH_POINTS, reached, set_hook

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_hook_stays() -> Iterator[None]:
    yield
    set_hook(None)


def test_every_point_has_one_place_of_its_service() -> None:
    places: Counter[str] = Counter()
    for directory in ("outreach", "services"):
        for path in (ROOT / directory).rglob("*.py"):
            found = re.findall(r'^ +reached\("([^"]+)"\)', path.read_text(), re.MULTILINE)
            places.update(found)
            service = "sender" if directory == "outreach" else "campaign"
            assert {CRASH_POINTS[point].service for point in found} <= {service}
    assert places == Counter(dict.fromkeys(CRASH_POINTS, 1))


def test_a_point_tells_the_hook_and_nobody_else() -> None:
    told: list[str] = []
    reached("claim-committed")
    set_hook(told.append)
    reached("claim-committed")
    set_hook(None)
    reached("claim-committed")
    assert told == ["claim-committed"]


class _Deaths(Control):
    """Notes a death, and lets nobody die."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.count = 0

    def note_crash(self) -> bool:
        self.count += 1
        return False


def test_the_nth_time_since_it_was_armed_counts(tmp_path: Path) -> None:
    control = _Deaths(tmp_path)
    hook = CrashHook(control)
    hook.reached("claim-committed")
    hook.follow(Crash("claim-committed", 2))
    hook.reached("claim-received")
    hook.reached("claim-committed")
    hook.follow(Crash("claim-committed", 2))  # looked at again
    assert control.count == 0
    hook.reached("claim-committed")
    assert control.count == 1


async def test_after_a_completion_is_the_next_commit_of_its_task(tmp_path: Path) -> None:
    control = _Deaths(tmp_path)
    hook = CrashHook(control)
    hook.follow(Crash("completion-committed", 1))
    hook.reached("reports-committed")
    hook.reached("completion-before-commit")
    hook.reached("reports-before-commit")
    assert control.count == 0
    hook.reached("reports-committed")
    assert control.count == 1


def test_a_crash_happens_once_and_never_after_it_was_disarmed(tmp_path: Path) -> None:
    control = Control(tmp_path)
    control.arm(Crash("stop-committed", 1))
    assert control.armed() == Crash("stop-committed", 1)
    assert control.crashed_pid() is None
    assert control.note_crash()
    assert control.crashed_pid() is not None
    assert control.armed() is None
    assert not control.note_crash()
    control.arm(Crash("stop-committed", 1))
    control.disarm()
    assert not control.note_crash()
    assert control.crashed_pid() is None


def test_all_points_can_be_armed() -> None:
    assert set(CRASH_POINTS) < set(ARMABLE)
