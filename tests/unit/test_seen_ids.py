"""The memory of ids seen lately: what it knows, what it forgets, and that it does not grow."""

from __future__ import annotations

import tracemalloc

from outreach.sending import seen_ids
from outreach.sending.seen_ids import SeenIds

IDS_MAX = 4_000


def _ids(first: int, count: int) -> list[str]:
    return [f"a-provider-s-id-of-an-event-{number}" for number in range(first, first + count)]


def _held_bytes() -> int:
    """Memory taken here and in the module; other threads of the process have theirs."""
    ours = [tracemalloc.Filter(True, file) for file in (__file__, seen_ids.__file__)]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(ours).traces)


def test_at_least_half_and_at_most_all_are_known() -> None:
    seen = SeenIds(IDS_MAX)
    for first in range(0, 3 * IDS_MAX, 500):
        seen.add(_ids(first, 500))
        known = [one in seen for one in _ids(0, first + 500)]
        assert all(known[-IDS_MAX // 2 :])
        assert not any(known[:-IDS_MAX])


def test_what_was_never_seen_is_not_known() -> None:
    seen = SeenIds(IDS_MAX)
    seen.add(_ids(0, IDS_MAX // 2))
    assert not any(one in seen for one in _ids(IDS_MAX, IDS_MAX))


def test_a_repetition_takes_no_room() -> None:
    seen = SeenIds(20)
    seen.add(["first", "second"])
    for _ in range(7):
        seen.add(["first"])
    seen.add(_ids(0, 8))
    seen.add(_ids(8, 10))
    assert "first" in seen, "not the half before the last one yet"


def test_of_too_many_at_once_the_last_ones_are_kept() -> None:
    seen = SeenIds(20)
    ids = _ids(0, 100)
    seen.add(ids)
    assert [one in seen for one in ids] == [False] * 90 + [True] * 10


def test_it_does_not_grow() -> None:
    tracemalloc.start()
    try:
        seen = SeenIds(IDS_MAX)
        before = _held_bytes()
        for first in range(0, 3 * IDS_MAX, 500):
            seen.add(_ids(first, 500))
        after = _held_bytes()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert before < 50 * IDS_MAX
