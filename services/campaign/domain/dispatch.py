"""The dispatch window: how far ahead of the sending jobs are published. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outreach.vocabulary import Channel


@dataclass(frozen=True, slots=True)
class ChannelWindow:
    """How jobs of a channel are cut, and how many messages may be published ahead."""

    #: A job's range holds about this many messages.
    job_messages: int
    #: Before the rate is known, and for slow campaigns without a pace.
    messages_min: int
    messages_max: int
    #: Only whole jobs are published, save for a campaign's last.
    whole_jobs: bool


WINDOWS: Final[Mapping[Channel, ChannelWindow]] = {
    Channel.SMS: ChannelWindow(500, 1_000, 20_000, whole_jobs=False),
    # A job is one request. Ten of them until the rate is known; then two seconds of 30,000/s at most, which is more
    # than one writer of a campaign's row commits.
    Channel.EMAIL: ChannelWindow(1_000, 10_000, 60_000, whole_jobs=True),
}
#: Jobs are published for about this many seconds of sending, so that a stop bites at once and campaigns share fairly.
WINDOW_SECONDS: Final = 2.0
#: What a pace allowed and was not used is kept for so long.
BURST_SECONDS: Final = 1.0
#: With a pace, whole jobs are of so many seconds at most, so that a slow campaign does not stand still for long.
PACED_JOB_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """The organisation's limit on the channel: SMS in segments, email in emails. `segments_per_second` None: none."""

    segments_per_second: float | None
    segments_mean: float

    @property
    def messages_per_second(self) -> float | None:
        """The limit in messages, by the campaign's mean."""
        if self.segments_per_second is None:
            return None
        return self.segments_per_second / max(self.segments_mean, 1.0)

    def usable_seconds(self, since_dispatch_seconds: float | None) -> float:
        """How much of the time since the last dispatch may be used now: a pause is not made up for.

        A second's worth, or one message's where that takes longer.
        """
        limit = self.messages_per_second
        most = BURST_SECONDS if limit is None else max(BURST_SECONDS, 1 / limit)
        return most if since_dispatch_seconds is None else min(since_dispatch_seconds, most)


def messages_to_dispatch(
    channel: Channel,
    *,
    outstanding: int,
    remaining: int,
    claimed_per_second: float,
    since_dispatch_seconds: float | None,
    pace: Pace,
) -> int:
    """How many more messages to publish jobs for now.

    Args:
        channel: of the campaign.
        outstanding: messages published and not claimed yet.
        remaining: queued messages that no job has been published for.
        claimed_per_second: the rate seen lately.
        since_dispatch_seconds: since jobs were last published in this run; None: never.
        pace: the organisation's limit. It is kept by publishing no faster, with bursts of at most one second's worth.
    """
    sizes, limit = WINDOWS[channel], pace.messages_per_second
    if limit is None:
        ahead = int(claimed_per_second * WINDOW_SECONDS)
        ahead = min(max(ahead, sizes.messages_min), sizes.messages_max) - outstanding
        job = sizes.job_messages
    else:
        # The little is for what floats lose: a whole message must not become none.
        allowed = int(limit * pace.usable_seconds(since_dispatch_seconds) + 1e-6)
        ahead = min(allowed, max(int(limit * WINDOW_SECONDS), 1) - outstanding)
        job = min(sizes.job_messages, max(int(limit * PACED_JOB_SECONDS), 1))
    ahead = min(max(ahead, 0), remaining)
    return ahead if ahead == remaining or not sizes.whole_jobs else ahead // job * job


def unused_seconds(messages: int, since_dispatch_seconds: float | None, pace: Pace) -> float:
    """What is left of the time since the last dispatch when so many messages have been published; for the next one."""
    limit = pace.messages_per_second
    if limit is None:
        return 0.0
    return max(pace.usable_seconds(since_dispatch_seconds) - messages / limit, 0.0)


def job_ranges(channel: Channel, first: int, last: int, messages: int) -> list[tuple[int, int]]:
    """Split the numbers first…last, of which `messages` are queued, into ranges of about a job's number of those."""
    jobs = max(1, -(-messages // WINDOWS[channel].job_messages))
    size = -(-(last - first + 1) // jobs)
    return [(start, min(start + size - 1, last)) for start in range(first, last + 1, size)]
