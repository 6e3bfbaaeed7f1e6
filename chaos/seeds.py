"""Many runs: each in a process of its own, so many at a time."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.run import run
from chaos.summary import Outcome, outcome_of, summary


@dataclass(frozen=True, kw_only=True)
class Options:
    """How seeds are run; as `chaos.run.run` has it. `keep_dir` None: a temporary one."""

    messages: int
    kinds: tuple[str, ...]
    long: bool
    keep_dir: Path | None

    @property
    def arguments(self) -> list[str]:
        """On a command line, without the directory."""
        given = ["--messages", str(self.messages)]
        given += ["--kinds", ",".join(self.kinds)] if self.kinds else []
        return given + (["--long"] if self.long else [])


def parse_seeds(text: str) -> list[int]:
    """The seeds that `7`, `1-200` or `1,5,9-12` names, for argparse."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            seeds += range(int(first), int(last or first) + 1)
        except ValueError:
            raise argparse.ArgumentTypeError(f"no seeds: {part!r}") from None
    if not seeds:
        raise argparse.ArgumentTypeError("no seeds")
    return seeds


async def run_here(seed: int, options: Options, outcome_path: Path) -> int:
    """Run one seed in this process, and leave its outcome in a file."""
    _cancel_on_signals()
    assert options.keep_dir is not None
    result = await run(
        seed,
        messages=options.messages,
        kinds=options.kinds,
        long=options.long,
        keep_dir=options.keep_dir,
    )
    replay = " ".join(["python -m chaos run", str(seed), *options.arguments])
    outcome_path.write_bytes(outcome_of(result, replay).dump())
    return 1 if result.violations else 0


async def run_seeds(seeds: Sequence[int], options: Options, *, jobs: int) -> int:
    """Run all of them, say a line of each as it ends and a table at the end; the exit code.

    A SIGINT or SIGTERM ends the runs that are under way, with all their processes, and what was found so
    far is said.
    """
    _cancel_on_signals()
    keep_dir = options.keep_dir or Path(tempfile.mkdtemp(prefix="outreach-chaos-"))
    print(f"what failed runs leave is kept in {keep_dir}", flush=True)
    outcomes: list[Outcome] = []
    broken: list[int] = []
    places = asyncio.Semaphore(jobs)

    async def one(seed: int) -> None:
        async with places:
            outcome = await _run_apart(seed, options, keep_dir)
        if outcome is None:
            broken.append(seed)
        else:
            outcomes.append(outcome)
            print(outcome.text, flush=True)

    interrupted = False
    try:
        async with asyncio.TaskGroup() as tasks:
            for seed in seeds:
                tasks.create_task(one(seed))
    except asyncio.CancelledError:
        interrupted = True
    print(summary(outcomes, broken), flush=True)
    if interrupted:
        print(
            f"interrupted: {len(seeds) - len(outcomes) - len(broken)} seeds were not run to their end"
        )
    return 1 if interrupted or broken or any(one.violations for one in outcomes) else 0


async def _run_apart(seed: int, options: Options, keep_dir: Path) -> Outcome | None:
    """Run a seed in a process of its own; None: it could not, and has said why."""
    with tempfile.TemporaryDirectory(prefix="outreach-chaos-outcome-") as directory:
        path = Path(directory) / "outcome.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos", "run", str(seed), *options.arguments),
            *("--keep", str(keep_dir), "--outcome", str(path)),
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        return Outcome.load(path.read_bytes()) if path.exists() else None


def _cancel_on_signals() -> None:
    """Let a signal end the present task, so that everything it has started is ended too."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
