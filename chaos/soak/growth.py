"""Whether a figure that should stay level grows: arithmetic on samples. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Levels are medians of so large a part of a series at each end.
_END_SHARE = 0.2
#: With fewer samples there is nothing to say.
SAMPLES_MIN = 10


@dataclass(frozen=True)
class Allowance:
    """What a figure may gain without being called a leak: the larger of the two.

    Attributes:
        share: of its level at the beginning.
        absolute: in the figure's unit; so that 3 descriptors more than 20 are no leak.
    """

    share: float = 0.05
    absolute: float = 0.0


@dataclass(frozen=True)
class Trend:
    """How a series went from its first sample to its last.

    Attributes:
        first: median of its first fifth.
        last: median of its last fifth.
        fitted_gain: what the line of least squares gains from the first sample to the last.
        seconds: from the first sample to the last.
    """

    first: float
    last: float
    fitted_gain: float
    seconds: float

    @property
    def gain(self) -> float:
        """From level to level."""
        return self.last - self.first

    @property
    def share(self) -> float:
        """The gain as a share of the first level; 0 when that is 0."""
        return self.gain / self.first if self.first else 0.0

    @property
    def per_hour(self) -> float:
        """The slope of the line of least squares, in units an hour."""
        return self.fitted_gain / self.seconds * 3_600 if self.seconds else 0.0

    def exceeds(self, allowance: Allowance) -> bool:
        """Whether it grew more than allowed, by the line and by the levels.

        A leak shows in both. One outlier bends the line alone, and a saw's tooth at an end lifts
        a level alone.
        """
        allowed = max(allowance.share * self.first, allowance.absolute)
        return min(self.gain, self.fitted_gain) > allowed


def trend(points: Sequence[tuple[float, float]]) -> Trend | None:
    """The trend of points (time in seconds, value) in the order of time; None: too few."""
    if len(points) < SAMPLES_MIN:
        return None
    times, values = [time for time, _ in points], [value for _, value in points]
    seconds = times[-1] - times[0]
    if not seconds:
        return None
    end = max(1, round(len(points) * _END_SHARE))
    slope = statistics.linear_regression(times, values).slope
    return Trend(
        first=statistics.median(values[:end]),
        last=statistics.median(values[-end:]),
        fitted_gain=slope * seconds,
        seconds=seconds,
    )
