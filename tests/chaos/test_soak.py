"""A soak of seconds: campaigns are sent, checked and sampled, and an interrupted one tells what it has."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import sys
from pathlib import Path

import orjson
import pytest

from chaos.soak import checking
from chaos.soak.command import soak
from chaos.soak.options import SoakOptions
from outreach.local.embedded import temporary_data_dir
from tests.waiting import eventually

pytestmark = pytest.mark.chaos


@pytest.fixture
def directory() -> Path:
    """PostgreSQL's own account has to get there, which it does not in pytest's directories."""
    return temporary_data_dir()


def sources(directory: Path) -> set[str]:
    path = directory / "samples.csv"
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {row["source"] for row in csv.DictReader(file)}


async def test_a_short_soak(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing disturbs the callbacks here, and the longest takes a fifth of this.
    monkeypatch.setattr(checking, "LATE_SECONDS", 8.0)
    options = SoakOptions(seconds=5, rate=20, fault_every_seconds=None, directory=directory)
    assert await soak(options) == 0, capsys.readouterr().out
    report = orjson.loads((directory / "report.json").read_bytes())
    assert report["violations"] == report["failures"] == []
    assert report["campaigns_checked"] == 2
    assert report["accepted"] >= 500
    assert {"campaign-1", "sender-sms-2", "jetstream", "table message", "soak"} <= sources(
        directory
    )
    assert "600 messages checked: 0 violations" in capsys.readouterr().out


async def test_an_interrupted_soak_tells_what_it_has(directory: Path) -> None:
    command = ("-m", "chaos", "soak", "5", "--rate", "20", "--fault-every", "3")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--directory", str(directory)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        await eventually(lambda: "table message" in sources(directory), 240, "samples are taken")
        process.send_signal(signal.SIGTERM)
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    assert "interrupted" in said.decode()
    assert "leaks: none" in said.decode()
    assert orjson.loads((directory / "report.json").read_bytes())["violations"] == []
