"""A tethered process ends with its parent, whatever ends the parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from outreach.local.tether import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, tether_command
from tests.waiting import eventually

# Says its id, then ignores the polite signals: only SIGKILL ends it.
STUBBORN = "trap '' TERM INT; echo $$; while :; do sleep 1000; done"


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Tethered:
    """A tether with its child, and this process as the parent."""

    def __init__(self, process: asyncio.subprocess.Process, child_pid: int) -> None:
        self.process = process
        self.child_pid = child_pid

    @classmethod
    async def start(cls, script: str, **options: object) -> "Tethered":
        process = await asyncio.create_subprocess_exec(
            *tether_command(["sh", "-c", script], **options),  # type: ignore[arg-type]  # test shorthand
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        return cls(process, int(await process.stdout.readline()))

    def drop(self) -> None:
        """What the kernel does when the parent dies."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def end(self) -> tuple[bytes, int]:
        """What the child still wrote, and how the tether ended."""
        assert self.process.stdout is not None
        output = await self.process.stdout.read()
        return output, await self.process.wait()


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    await eventually(
        lambda: all(
            is_gone(p.pid) for p in set(psutil.Process().children(recursive=True)) - before
        ),
        what="every process of the test gone",
    )


@pytest.mark.parametrize("code", [0, 3, 255])
async def test_the_exit_code_is_the_childs(code: int) -> None:
    tethered = await Tethered.start(f"echo $$; exit {code}")
    assert await tethered.end() == (b"", code)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
async def test_a_signal_that_ends_the_child_ends_the_tether_too(number: signal.Signals) -> None:
    tethered = await Tethered.start("echo $$; exec sleep 1000")
    os.kill(tethered.child_pid, number)
    assert await tethered.end() == (b"", -number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_tether_asks_with_the_stop_signal(number: signal.Signals) -> None:
    script = "trap 'echo interrupted; exit 7' INT; echo $$; while :; do sleep 0.01; done"
    tethered = await Tethered.start(script, stop_signal=signal.SIGINT)
    tethered.process.send_signal(number)
    assert await tethered.end() == (b"interrupted\n", 7)


async def test_a_parent_that_dies_takes_a_stubborn_child_along() -> None:
    tethered = await Tethered.start(STUBBORN, grace_seconds=0.1)
    tethered.drop()
    assert await tethered.end() == (b"", -signal.SIGKILL)
    assert is_gone(tethered.child_pid)


async def test_what_the_child_started_ends_too() -> None:
    tethered = await Tethered.start("sleep 1000 & echo $!")
    grandchild_pid = tethered.child_pid
    assert await tethered.end() == (b"", 0)
    await eventually(lambda: is_gone(grandchild_pid), what="the grandchild gone")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
async def test_a_killed_tether_takes_its_child_along() -> None:
    tethered = await Tethered.start("trap '' TERM INT; echo $$; exec sleep 1000")
    tethered.process.kill()
    await eventually(lambda: is_gone(tethered.child_pid), what="the child gone")
    assert await tethered.end() == (b"", -signal.SIGKILL)


@pytest.mark.parametrize("command", ["sleep", "/does/not/exist"])
async def test_the_childs_id_is_told_and_nothing_when_there_is_none(command: str) -> None:
    read_fd, write_fd = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *tether_command([command, "1000"], pid_fd=write_fd),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(write_fd,),
    )
    os.close(write_fd)
    line = await asyncio.to_thread(os.read, read_fd, 32)
    os.close(read_fd)
    if command == "sleep":
        assert psutil.Process(int(line)).ppid() == process.pid
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
    else:
        assert line == b""
        assert await process.wait() == EXIT_NOT_FOUND


async def test_a_command_that_may_not_be_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    done = await asyncio.to_thread(
        subprocess.run,
        tether_command([str(tmp_path / "data")]),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == EXIT_NOT_EXECUTABLE
    assert b"may not be run" in done.stderr
