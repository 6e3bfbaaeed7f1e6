"""Command line: `python -m simulation 1-10000`, `python -m simulation 4711 --history`, `… 1-50 --postgres`."""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from simulation.run import Result, journals_directory, simulate

#: Seeds that a worker process runs at a time.
CHUNK_SEEDS = 20
#: Of the failing seeds so many histories are printed.
HISTORIES_MAX = 3


def parse_seeds(text: str) -> list[int]:
    """`7`, `1-10000` and `1,5,9-12`. Raises ValueError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds:
        raise ValueError("no seeds")
    return seeds


def main(arguments: Sequence[str]) -> int:
    """0: every promise was kept in every seed. 1: not so."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("seeds", type=parse_seeds, nargs="?", default=parse_seeds("1-10000"))
    parser.add_argument("--history", action="store_true", help="print what happens in each seed")
    parser.add_argument("--postgres", action="store_true", help="on a real PostgreSQL; fewer seeds")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    if options.postgres:
        from simulation.postgres import simulate_on_postgres

        results = simulate_on_postgres(options.seeds, keeps_history=options.history)
    elif options.history or len(options.seeds) <= CHUNK_SEEDS:
        results = _one_by_one(options.seeds, keeps_history=options.history)
    else:
        results = _in_parallel(options.seeds, options.workers)
    with closing(results):
        return _tell(results, begun, on_postgres=options.postgres)


def _one_by_one(seeds: Sequence[int], *, keeps_history: bool) -> Generator[Result, None, None]:
    for seed in seeds:
        yield simulate(seed, keeps_history=keeps_history)


def _in_parallel(seeds: Sequence[int], workers: int) -> Generator[Result, None, None]:
    chunks = [seeds[at : at + CHUNK_SEEDS] for at in range(0, len(seeds), CHUNK_SEEDS)]
    with (
        journals_directory() as journals,
        # A signal ends a worker as it stands: what it leaves is here.
        ProcessPoolExecutor(
            workers, initializer=signal.signal, initargs=(signal.SIGTERM, signal.SIG_DFL)
        ) as pool,
    ):
        try:
            for results in pool.map(partial(_chunk, journals), chunks):
                yield from results
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _chunk(journals: Path, seeds: Sequence[int]) -> list[Result]:
    return [simulate(seed, journals_in=journals) for seed in seeds]


def _tell(results: Iterable[Result], begun: float, *, on_postgres: bool) -> int:
    seeds = sent = 0
    virtual_seconds = 0.0
    failing: list[int] = []
    for result in results:
        seeds += 1
        sent += result.sent
        virtual_seconds += result.virtual_seconds
        if result.history and not result.violations:
            print("\n".join(result.history))
        if result.violations:
            failing.append(result.seed)
            _tell_failure(
                result, on_postgres=on_postgres, with_history=len(failing) <= HISTORIES_MAX
            )
    seconds = time.perf_counter() - begun
    print(
        f"{seeds:,} seeds in {seconds:.1f} s ({seeds / seconds:.1f} a second): {sent:,} messages accepted in "
        f"{virtual_seconds / 3600:,.1f} virtual hours; "
        + (f"{len(failing)} seeds FAILED: {failing[:20]}" if failing else "every promise was kept")
    )
    return 1 if failing else 0


def _tell_failure(result: Result, *, on_postgres: bool, with_history: bool) -> None:
    history = result.history
    if with_history and not history and not on_postgres:
        history = simulate(result.seed, keeps_history=True).history
    print("\n".join(history))
    for violation in result.violations:
        print(f"seed {result.seed} VIOLATES {violation}")
    where = " --postgres" if on_postgres else ""
    print(f"replay: python -m simulation {result.seed} --history{where}\n")


def _end(*_: object) -> None:
    """Leave, and clean up on the way."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
