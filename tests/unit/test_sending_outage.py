"""When a provider counts as out, by made-up clock readings."""

from __future__ import annotations

from outreach.sending.outage import (
    REST_SECONDS_MAX,
    REST_SECONDS_MIN,
    UNKNOWN_IN_A_ROW_MAX,
    OutageGuard,
)


def in_a_row(guard: OutageGuard, count: int, begun_seconds: float) -> list[float]:
    return [
        guard.on_unknown(1, begun_seconds=begun_seconds, now_seconds=begun_seconds + 1)
        for _ in range(count)
    ]


def test_only_a_row_of_unclear_answers_makes_an_outage() -> None:
    guard = OutageGuard()
    assert in_a_row(guard, UNKNOWN_IN_A_ROW_MAX - 1, 0) == [0.0] * (UNKNOWN_IN_A_ROW_MAX - 1)
    guard.on_known()
    assert not guard.is_out
    assert in_a_row(guard, UNKNOWN_IN_A_ROW_MAX, 0)[-1] == REST_SECONDS_MIN
    assert guard.is_out


def test_rests_grow_by_tries_and_not_by_what_was_under_way() -> None:
    guard = OutageGuard()
    in_a_row(guard, UNKNOWN_IN_A_ROW_MAX, 0)
    assert in_a_row(guard, 100, 0.5) == [0.0] * 100
    rests = [in_a_row(guard, 1, 100.0 * n)[0] for n in range(1, 9)]
    assert rests[:3] == [2 * REST_SECONDS_MIN, 4 * REST_SECONDS_MIN, 8 * REST_SECONDS_MIN]
    assert rests[-1] == REST_SECONDS_MAX
    guard.on_known()
    assert not guard.is_out


def test_a_large_request_is_enough() -> None:
    guard = OutageGuard()
    rest_seconds = guard.on_unknown(1_000, begun_seconds=0, now_seconds=1)
    assert rest_seconds == REST_SECONDS_MIN
    assert guard.is_out
