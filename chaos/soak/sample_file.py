"""Samples as a CSV file, written as they come: what is there of a soak that was interrupted."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.history import Sampled
from chaos.soak.lives import FIGURES


class SampleFile:
    """A context manager; `pid` is empty for what is no process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("w", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(["time", "source", "pid", *FIGURES])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, samples: Iterable[Sampled], pids: Mapping[str, int | None]) -> None:
        """Add the samples of one time."""
        for sample in samples:
            figures = [getattr(sample, figure) for figure in FIGURES]
            self._rows.writerow(
                [f"{sample.time:.3f}", sample.source, pids.get(sample.source), *figures]
            )
        self._file.flush()
