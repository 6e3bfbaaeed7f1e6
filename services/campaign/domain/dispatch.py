"""The dispatch window: how far ahead of the sending jobs are published. Pure."""

from dataclasses import dataclass

#: A job's range holds at most this many messages.
JOB_MESSAGES_MAX = 500
#: Jobs are published for about this many seconds of sending, so that a stop bites at once and campaigns share fairly.
WINDOW_SECONDS = 2.0
#: Before the rate is known, and for slow campaigns without a pace.
WINDOW_MESSAGES_MIN = 1_000
WINDOW_MESSAGES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Pace:
    """The organisation's limit on the channel. `segments_per_second` None: none."""

    segments_per_second: float | None
    segments_mean: float

    @property
    def messages_per_second(self) -> float | None:
        """The limit in messages, by the campaign's mean."""
        if self.segments_per_second is None:
            return None
        return self.segments_per_second / max(self.segments_mean, 1.0)


def messages_to_dispatch(
    *,
    outstanding: int,
    claimed_per_second: float,
    since_dispatch_seconds: float | None,
    pace: Pace,
) -> int:
    """How many more messages to publish jobs for now.

    Args:
        outstanding: messages published and not claimed yet.
        claimed_per_second: the rate seen lately.
        since_dispatch_seconds: since jobs were last published in this run; None: never.
        pace: the organisation's limit. It is kept by publishing no faster, with bursts of at most one second's worth.
    """
    limit = pace.messages_per_second
    if limit is None:
        window = min(
            max(int(claimed_per_second * WINDOW_SECONDS), WINDOW_MESSAGES_MIN), WINDOW_MESSAGES_MAX
        )
        return max(window - outstanding, 0)
    window = max(int(limit * WINDOW_SECONDS), 1)
    elapsed = 1.0 if since_dispatch_seconds is None else min(since_dispatch_seconds, 1.0)
    return max(min(int(limit * elapsed), window - outstanding), 0)


def job_ranges(first: int, last: int, messages: int) -> list[tuple[int, int]]:
    """Split the numbers first…last, of which `messages` are queued, into ranges of about JOB_MESSAGES_MAX of those."""
    jobs = max(1, -(-messages // JOB_MESSAGES_MAX))
    size = -(-(last - first + 1) // jobs)
    return [(start, min(start + size - 1, last)) for start in range(first, last + 1, size)]
