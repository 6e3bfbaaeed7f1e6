"""Adaptive concurrency: up while nothing is refused, down at once, never below one."""

from __future__ import annotations

from outreach.sending.pacing import AdaptiveConcurrency


def answers(pacing: AdaptiveConcurrency, count: int) -> None:
    for _ in range(count):
        pacing.on_answer(at_limit=True)


def throttle(pacing: AdaptiveConcurrency, at: float, concurrent: int | None = None) -> None:
    pacing.on_throttled(begun_seconds=at, now_seconds=at, concurrent_requests=concurrent)


def test_a_round_of_answers_doubles_the_limit_at_first() -> None:
    pacing = AdaptiveConcurrency(start=8, limit_max=100)
    answers(pacing, 8)
    assert pacing.limit == 16


def test_it_grows_to_its_maximum_and_no_further() -> None:
    pacing = AdaptiveConcurrency(start=8, limit_max=20)
    answers(pacing, 1_000)
    assert pacing.limit == 20


def test_answers_below_the_limit_prove_nothing() -> None:
    pacing = AdaptiveConcurrency(start=8, limit_max=100)
    for _ in range(100):
        pacing.on_answer(at_limit=False)
    assert pacing.limit == 8


def test_a_throttling_cuts_and_then_it_grows_by_one_a_round() -> None:
    pacing = AdaptiveConcurrency(start=40, limit_max=100)
    throttle(pacing, 1.0)
    assert pacing.limit == 28
    answers(pacing, 29)
    assert pacing.limit == 29


def test_refusals_of_one_round_cut_once() -> None:
    pacing = AdaptiveConcurrency(start=40, limit_max=100)
    throttle(pacing, 1.0)
    for begun in (0.2, 0.5, 0.9, 1.0):
        pacing.on_throttled(begun_seconds=begun, now_seconds=1.1, concurrent_requests=None)
    assert pacing.limit == 28
    throttle(pacing, 2.0)
    assert pacing.limit == 19


def test_the_providers_count_bounds_the_aim() -> None:
    pacing = AdaptiveConcurrency(start=64, limit_max=100)
    throttle(pacing, 1.0, concurrent=10)
    assert pacing.limit == 7


def test_it_never_stops() -> None:
    pacing = AdaptiveConcurrency(start=2, limit_max=100)
    for at in range(1, 20):
        throttle(pacing, float(at))
    assert pacing.limit == 1
    answers(pacing, 1)
    assert pacing.limit == 2
