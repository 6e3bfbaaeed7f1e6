"""The samples of a soak by source and by life: a process that was restarted begins anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chaos.history import Sampled
from chaos.soak.growth import Trend, trend

#: The figures of a sample, as they are named there.
FIGURES = (
    "rss_bytes",
    "file_descriptors",
    "threads",
    "tasks",
    "connections",
    "jetstream_bytes",
    "jetstream_messages",
    "dead_tuples",
    "table_bytes",
)


@dataclass
class Life:
    """One process from its start to its end; of a table or a server's store the whole soak.

    Attributes:
        pid: of the process; None: no process.
        begun_time: of its first sample.
    """

    source: str
    pid: int | None
    begun_time: float
    samples: list[Sampled] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self.samples[-1].time - self.begun_time

    def trend(self, figure: str, warm_up_seconds: float) -> Trend | None:
        """How a figure went, the warm-up left out; None: too few samples have it."""
        points = [
            (sample.time, float(value))
            for sample in self.samples
            if sample.time - self.begun_time >= warm_up_seconds
            and (value := getattr(sample, figure)) is not None
        ]
        return trend(points)

    def at_age(self, figure: str, age_seconds: float) -> int | None:
        """The figure at that age: of the first sample that is so old; None: it was never so old."""
        for sample in self.samples:
            if sample.time - self.begun_time >= age_seconds:
                value: int | None = getattr(sample, figure)
                return value
        return None


class Lives:
    """All lives of all sources."""

    def __init__(self) -> None:
        self._by_source: defaultdict[str, list[Life]] = defaultdict(list)

    def add(self, samples: Iterable[Sampled], pids: Mapping[str, int | None]) -> None:
        """Add what was sampled at one time; `pids` of those sources that are processes."""
        for sample in samples:
            lives = self._by_source[sample.source]
            pid = pids.get(sample.source)
            if not lives or lives[-1].pid != pid:
                lives.append(Life(sample.source, pid, sample.time))
            lives[-1].samples.append(sample)

    @property
    def sources(self) -> list[str]:
        """Their names, sorted."""
        return sorted(self._by_source)

    def of(self, source: str) -> list[Life]:
        """The lives of a source, in order."""
        return self._by_source[source]

    def longest(self, source: str) -> Life:
        """Its longest life."""
        return max(self._by_source[source], key=lambda life: life.seconds)
