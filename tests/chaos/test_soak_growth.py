"""What a soak calls a leak, on made series."""

from __future__ import annotations

import math
import random

from chaos.history import Sampled
from chaos.soak.growth import Allowance, trend
from chaos.soak.lives import Lives

MIB = 2**20
HOUR = 3_600


def series(value: object, seconds: int = HOUR, every: int = 10) -> list[tuple[float, float]]:
    assert callable(value)
    return [(float(at), value(at)) for at in range(0, seconds, every)]


def test_a_leak_is_told() -> None:
    chance = random.Random(1)
    leaking = series(lambda at: (80 + 6 * at / HOUR) * MIB + chance.gauss(0, MIB))
    found = trend(leaking)
    assert found is not None
    assert found.exceeds(Allowance(0.05))
    assert 4 * MIB < found.gain < 7 * MIB
    assert 5 * MIB < found.per_hour < 7 * MIB


def test_a_flat_noisy_series_is_none() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        flat = series(lambda _, chance=chance: 80 * MIB + chance.gauss(0, 3 * MIB))
        found = trend(flat)
        assert found is not None
        assert not found.exceeds(Allowance(0.05))


def test_a_saw_tooth_is_none() -> None:
    """Dead rows until the vacuum comes, as often as it does."""
    for period in (130, 470, 1_100):
        found = trend(series(lambda at, period=period: 10_000.0 * (at % period) / period))
        assert found is not None
        assert not found.exceeds(Allowance(0.05, absolute=6_000))


def test_one_outlier_at_the_end_is_none() -> None:
    found = trend(series(lambda at: 300.0 * MIB if at >= HOUR - 10 else 80.0 * MIB))
    assert found is not None
    assert not found.exceeds(Allowance(0.05))


def test_a_slow_leak_of_descriptors_is_told_beyond_what_is_allowed() -> None:
    found = trend(series(lambda at: 40.0 + at // 200))
    assert found is not None
    assert found.exceeds(Allowance(0.05, absolute=8))
    assert not found.exceeds(Allowance(0.05, absolute=20))


def test_what_shrinks_is_none() -> None:
    found = trend(series(lambda at: 80.0 - math.sqrt(at) / 10))
    assert found is not None
    assert not found.exceeds(Allowance(0.0))


def test_too_few_samples_say_nothing() -> None:
    assert trend([(0.0, 1.0), (10.0, 2.0)]) is None


def test_a_restarted_process_begins_anew() -> None:
    lives = Lives()
    for at in range(0, 1_000, 10):
        pid = 1 if at < 300 else 2
        rss = 50 * MIB + (at % 300) * 1_000
        sampled = [
            Sampled(source="campaign-2", time=float(at), rss_bytes=rss),
            Sampled(source="table message", time=float(at), dead_tuples=at),
        ]
        lives.add(sampled, {"campaign-2": pid})
    assert [life.pid for life in lives.of("campaign-2")] == [1, 2]
    assert [life.begun_time for life in lives.of("campaign-2")] == [0.0, 300.0]
    assert lives.longest("campaign-2").seconds == 690
    assert {life.at_age("rss_bytes", 100) for life in lives.of("campaign-2")} == {
        50 * MIB + 100_000
    }
    assert lives.of("campaign-2")[0].at_age("rss_bytes", 400) is None
    assert lives.of("campaign-2")[0].trend("rss_bytes", 250) is None
    table = lives.longest("table message").trend("dead_tuples", 100)
    assert table is not None
    assert table.exceeds(Allowance(0.05))
