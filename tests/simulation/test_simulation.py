"""The simulation keeps every promise over a few seeds; `python -m simulation 1-10000` runs the many."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from simulation.__main__ import main, parse_seeds
from simulation.postgres import simulate_on_postgres
from simulation.run import simulate
from tests.simulation.breaks import BREAKS
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", range(1, 21))
def test_every_promise_is_kept(seed: int) -> None:
    assert not simulate(seed).violations, f"python -m simulation {seed} --history"


def test_every_promise_is_kept_on_postgresql(postgres_dsn: str) -> None:
    for result in simulate_on_postgres([1, 3], dsn=postgres_dsn):
        assert not result.violations, f"python -m simulation {result.seed} --postgres --history"


def test_a_seed_is_one_history() -> None:
    """Whatever ran before in the process, and however Python hashes there."""
    here = [*simulate(11, keeps_history=True).history]
    assert len(here) > 100
    assert _history("1") == here
    assert _history("2") == here


def _history(hash_seed: str) -> list[str]:
    """Without the last line, which says how long it took."""
    command = [sys.executable, "-m", "simulation", "11", "--history"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.splitlines()[:-1]


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking = BREAKS[name]
    breaking.apply(monkeypatch)
    assert simulate(breaking.shown_by).violations, f"python -m tests.simulation.breaks {name}"


def test_a_failing_seed_is_told_with_its_history_and_its_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    BREAKS["two_campaigns_share_the_channel"].apply(monkeypatch)
    assert main(["1"]) == 1
    told = capsys.readouterr().out
    assert "seed 1 VIOLATES one_campaign_runs_at_a_time" in told
    assert "replay: python -m simulation 1 --history" in told
    assert "run 1" in told


async def test_a_signal_ends_the_workers_too() -> None:
    command = (sys.executable, "-m", "simulation", "1-10000", "--workers", "2")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = await asyncio.create_subprocess_exec(*command, env=environment)
    workers = await eventually(lambda: _children(parent.pid, 2), 180, "two workers")
    journals = await eventually(lambda: _journals(workers), 180, "a journal")
    parent.terminate()
    assert await parent.wait() == 128 + signal.SIGTERM
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert not any(directory.exists() for directory in journals)


def _children(pid: int, count: int) -> list[str]:
    """Once there are so many."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return children if len(children) == count else []


def _journals(pids: Sequence[str]) -> set[Path]:
    """The directories of the journals that are open."""
    files = [Path(os.path.realpath(fd)) for pid in pids for fd in Path(f"/proc/{pid}/fd").glob("*")]
    return {up for file in files for up in file.parents if up.name.startswith("simulation-")}


def test_seeds_are_numbers_and_ranges() -> None:
    assert parse_seeds("7") == [7]
    assert parse_seeds("1-3,9") == [1, 2, 3, 9]
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds("3-1")
