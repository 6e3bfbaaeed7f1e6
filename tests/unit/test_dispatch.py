"""How far ahead of the sending jobs are published, and how they are cut."""

import pytest

from outreach.vocabulary import Channel
from services.campaign.domain.dispatch import (
    WINDOWS,
    Pace,
    job_ranges,
    messages_to_dispatch,
    unused_seconds,
)

SMS, EMAIL = Channel.SMS, Channel.EMAIL
FREE = Pace(None, 1.0)


def ahead(
    channel: Channel,
    outstanding: int = 0,
    rate: float = 0,
    pace: Pace = FREE,
    since: float | None = 0.1,
    remaining: int = 1_000_000,
) -> int:
    return messages_to_dispatch(
        channel,
        outstanding=outstanding,
        remaining=remaining,
        claimed_per_second=rate,
        since_dispatch_seconds=since,
        pace=pace,
    )


def test_the_window_follows_the_rate_and_the_pace() -> None:
    assert ahead(SMS) == 1_000
    assert ahead(SMS, 1_000) == 0
    assert ahead(SMS, 500, 2_000) == 3_500
    assert ahead(SMS, 0, 1_000_000) == 20_000
    assert ahead(SMS, remaining=7) == 7
    slow = Pace(100.0, 2.0)
    assert ahead(SMS, pace=slow, since=None) == 50
    assert ahead(SMS, pace=slow, since=0.1) == 5
    assert ahead(SMS, pace=slow, since=60) == 50  # a pause is not made up for
    assert ahead(SMS, 100, pace=slow, since=60) == 0
    assert ahead(SMS, 99, pace=slow, since=60) == 1


def test_the_window_of_emails_is_of_whole_requests() -> None:
    assert ahead(EMAIL) == 10_000
    assert ahead(EMAIL, 10_000) == ahead(EMAIL, 9_001) == 0
    assert ahead(EMAIL, 7_400) == 2_000
    # Two seconds of 12,345/s; the most is what one campaign's row can take.
    assert ahead(EMAIL, 0, 12_345) == 24_000
    assert ahead(EMAIL, 0, 1_000_000) == 60_000
    # The last job is as large as it is.
    assert ahead(EMAIL, remaining=437) == 437
    assert ahead(EMAIL, 9_001, remaining=437) == 437
    assert ahead(EMAIL, 9_900, remaining=437) == 0


def test_a_pace_of_emails_is_of_whole_jobs_too() -> None:
    fast = Pace(10_000.0, 1.0)
    assert ahead(EMAIL, pace=fast, since=0.099) == 0
    assert ahead(EMAIL, pace=fast, since=0.1) == 1_000
    assert ahead(EMAIL, pace=fast, since=0.25) == 2_000
    assert ahead(EMAIL, pace=fast, since=9.0) == 10_000
    assert ahead(EMAIL, 19_500, pace=fast, since=9.0) == 0
    # Slower ones do not wait for a thousand.
    slow = Pace(100.0, 1.0)
    assert ahead(EMAIL, pace=slow, since=0.4) == 0
    assert ahead(EMAIL, pace=slow, since=0.55) == 50
    assert ahead(EMAIL, pace=slow, since=0.4, remaining=30) == 30


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("limit", [0.3, 1.0, 3.0, 15.0, 77.7, 480.0, 2_500.0, 14_999.0])
def test_a_pace_is_kept_and_made_use_of(channel: Channel, limit: float) -> None:
    """By ticks of a tenth of a second and a little: what one tick can't use is there for the next."""
    pace, seconds, tick = Pace(limit, 1.0), 200.0, 0.1037
    since, published, burst = 0.0, 0, max(1.0, 1 / limit)
    for _ in range(int(seconds / tick)):
        since += tick
        messages = ahead(channel, pace=pace, since=since)
        if messages:
            published += messages
            since = unused_seconds(messages, since, pace)
        assert published <= limit * (seconds + burst)
    assert published <= limit * seconds + 1
    assert published >= limit * (seconds - burst - 2 * tick) * 0.95


def test_less_than_a_message_a_second_is_a_pace_as_well() -> None:
    """It once never began."""
    pace = Pace(1.0, 2.0)
    assert ahead(SMS, pace=pace, since=None) == 1
    assert ahead(SMS, pace=pace, since=1.9) == 0
    assert ahead(SMS, pace=pace, since=2.0) == 1
    assert ahead(SMS, pace=pace, since=60.0) == 1


def test_without_a_pace_no_time_is_left_over() -> None:
    assert unused_seconds(10, 60.0, FREE) == 0


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize(
    ("first", "last", "messages"),
    [(1, 1, 1), (1, 5_000, 3), (7, 1_234, 1_228), (1, 60_000, 60_000)],
)
def test_job_ranges_cover_exactly(channel: Channel, first: int, last: int, messages: int) -> None:
    ranges = job_ranges(channel, first, last, messages)
    numbers = [number for start, end in ranges for number in range(start, end + 1)]
    assert numbers == list(range(first, last + 1))
    if messages == last - first + 1:
        assert max(end - start + 1 for start, end in ranges) <= WINDOWS[channel].job_messages


def test_whole_jobs_are_cut_as_one_request_each() -> None:
    assert job_ranges(EMAIL, 1_001, 4_000, 3_000) == [
        (1_001, 2_000),
        (2_001, 3_000),
        (3_001, 4_000),
    ]
