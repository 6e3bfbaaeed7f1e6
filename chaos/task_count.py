"""How many asyncio tasks a process has: written to a file by itself, read by whoever watches it.

A task that nobody awaits and that never ends shows in no other figure for a long time. Only a
process that was started through `chaos.process` counts its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

WRITE_SECONDS = 2.0
_FILE_NAME = "tasks"


def task_count_path(data_dir: Path, name: str) -> Path:
    """Where the process of this name writes its count: in its control directory."""
    return data_dir / "chaos" / name / _FILE_NAME


def count_tasks(control_dir: Path) -> None:
    """Have this process count its tasks from the start of its event loop on."""
    plain_run = uvloop.run

    def run(main: Coroutine[Any, Any, T], **options: Any) -> T:
        return plain_run(counting_tasks(main, control_dir / _FILE_NAME), **options)

    uvloop.run = run


async def counting_tasks(main: Coroutine[Any, Any, T], path: Path) -> T:
    """Run `main`, and meanwhile write every `WRITE_SECONDS` how many tasks there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = asyncio.create_task(_write(path))
    try:
        return await main
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


async def _write(path: Path) -> None:
    while True:
        # Not this one: it is no part of the process.
        path.write_text(f"{len(asyncio.all_tasks()) - 1}\n")
        await asyncio.sleep(WRITE_SECONDS)


def read_task_count(path: Path) -> int | None:
    """The last count; None when there is none, or it is just being written."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None
