"""Start in stages, restart what dies, stop everything, leave nothing."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from outreach.local.process_log import ProcessLog
from outreach.local.supervisor import EventKind, ProcessSpec, StartFailed, Supervisor
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def sleeper(name: str, *, stage: int = 0) -> ProcessSpec:
    return ProcessSpec(name=name, argv=["sleep", "1000"], stage=stage)


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return path.exists()

    return check


def kinds(supervisor: Supervisor, name: str) -> list[EventKind]:
    return [event.kind for event in supervisor.events if event.name == name]


async def test_stages_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    first = ProcessSpec(
        name="first",
        argv=["sh", "-c", f"sleep 0.2; touch {ready}; exec sleep 1000"],
        healthy=exists(ready),
    )
    async with Supervisor([sleeper("second", stage=1), first], tmp_path / "log") as supervisor:
        pids = [supervisor.pid("first"), supervisor.pid("second")]
    assert [(event.name, event.kind) for event in supervisor.events] == [
        ("first", EventKind.STARTED),
        ("first", EventKind.HEALTHY),
        ("second", EventKind.STARTED),
        ("second", EventKind.HEALTHY),
        ("second", EventKind.STOPPED),
        ("first", EventKind.STOPPED),
    ]
    assert all(pid is not None and is_gone(pid) for pid in pids)


async def test_a_process_that_dies_is_started_again_and_later_each_time(tmp_path: Path) -> None:
    async with Supervisor([sleeper("a"), sleeper("b")], tmp_path) as supervisor:
        b_pid = supervisor.pid("b")
        pauses = []
        for _ in range(3):
            old_pid = supervisor.kill("a")
            new_pid = await supervisor.wait_restarted("a", old_pid, timeout_seconds=60)
            assert new_pid == supervisor.pid("a") != old_pid
            died, started = [e for e in supervisor.events if e.name == "a"][-3:-1]
            assert (died.kind, died.pid, died.returncode) == (EventKind.DIED, old_pid, -9)
            pauses.append(started.at_monotonic_seconds - died.at_monotonic_seconds)
        assert pauses[0] >= 0.2
        assert pauses[1] >= 0.4
        assert pauses[2] >= 0.8
        assert supervisor.pid("b") == b_pid


async def test_a_kill_can_hold_the_process_down(tmp_path: Path) -> None:
    async with Supervisor([sleeper("a")], tmp_path) as supervisor:
        killed_at = time.monotonic()
        old_pid = supervisor.kill("a", signal.SIGTERM, down_seconds=3.0)
        await eventually(lambda: supervisor.pid("a") is None, what="a down")
        with pytest.raises(ProcessLookupError, match="a is down"):
            supervisor.kill("a")
        await supervisor.wait_restarted("a", old_pid, timeout_seconds=60)
        assert time.monotonic() - killed_at >= 3.0


async def test_a_killed_tether_is_a_death_like_any_other(tmp_path: Path) -> None:
    spec = ProcessSpec(name="a", argv=["sh", "-c", "sleep 1000 & wait"])
    async with Supervisor([spec], tmp_path) as supervisor:
        tether_pid, old_pid = supervisor.tether_pid("a"), supervisor.pid("a")
        assert tether_pid is not None
        assert old_pid is not None
        family = [old_pid, *(p.pid for p in psutil.Process(old_pid).children())]
        os.kill(tether_pid, signal.SIGKILL)
        await supervisor.wait_restarted("a", old_pid, timeout_seconds=60)
        await eventually(lambda: all(is_gone(pid) for pid in family), what="the old family gone")


async def test_a_failed_start_says_which_and_why_and_stops_the_rest(tmp_path: Path) -> None:
    bad = ProcessSpec(
        name="bad",
        argv=["sh", "-c", "echo one; echo two >&2; exit 3"],
        healthy=exists(tmp_path / "x"),
    )
    supervisor = Supervisor([sleeper("good"), bad], tmp_path)
    with pytest.raises(StartFailed, match="bad ended with exit code 3 before") as caught:
        await supervisor.__aenter__()
    assert caught.value.last_lines == ("one", "two")
    assert str(tmp_path / "bad.log") in str(caught.value)
    assert kinds(supervisor, "good")[-1] is EventKind.STOPPED
    assert kinds(supervisor, "bad") == [EventKind.STARTED, EventKind.DIED]


async def test_a_command_that_is_not_there_is_a_failed_start(tmp_path: Path) -> None:
    spec = ProcessSpec(name="a", argv=["/does/not/exist"], healthy=exists(tmp_path / "x"))
    with pytest.raises(StartFailed, match=r"exit code 127.*\n.*not found: /does/not/exist"):
        await Supervisor([spec], tmp_path).__aenter__()


async def test_a_process_that_is_never_ready_is_a_failed_start(tmp_path: Path) -> None:
    spec = ProcessSpec(
        name="mute", argv=["sleep", "1000"], healthy=exists(tmp_path / "x"), ready_seconds_max=0.3
    )
    supervisor = Supervisor([spec], tmp_path)
    with pytest.raises(StartFailed, match=r"mute was not healthy within 0\.3 s"):
        await supervisor.__aenter__()
    assert EventKind.NOT_READY in kinds(supervisor, "mute")
    assert supervisor.pid("mute") is None


async def test_what_fails_before_a_start_reaches_the_caller(tmp_path: Path) -> None:
    async def prepare() -> None:
        raise OSError("no directory")

    spec = ProcessSpec(name="a", argv=["sleep", "1000"], prepare=prepare)
    with pytest.raises(OSError, match="no directory"):
        await Supervisor([spec], tmp_path).__aenter__()


async def test_an_error_in_the_body_stops_everything_and_is_raised(tmp_path: Path) -> None:
    pids = []

    async def body() -> None:
        async with Supervisor([sleeper("a")], tmp_path) as supervisor:
            pids.append(supervisor.pid("a"))
            raise ValueError("body")

    with pytest.raises(ValueError, match="body"):
        await body()
    assert [pid is not None and is_gone(pid) for pid in pids] == [True]


async def test_cancelling_stops_everything(tmp_path: Path) -> None:
    supervisor = Supervisor([sleeper("a")], tmp_path)
    entered = asyncio.Event()

    async def body() -> None:
        async with supervisor:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await entered.wait()
    pid = supervisor.pid("a")
    assert pid is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pid)


async def test_what_fails_before_a_start_that_was_cancelled_is_no_fault(tmp_path: Path) -> None:
    """Seen: Ctrl-C also reached initdb; its failure met a cancelled start."""
    preparing, interrupted = asyncio.Event(), asyncio.Event()

    async def prepare() -> None:
        preparing.set()
        await interrupted.wait()
        raise OSError("initdb was interrupted")

    supervisor = Supervisor([ProcessSpec(name="a", argv=["sleep", "1"], prepare=prepare)], tmp_path)
    entering = asyncio.create_task(supervisor.__aenter__())
    await preparing.wait()
    entering.cancel()
    interrupted.set()
    with pytest.raises(asyncio.CancelledError):
        await entering


async def test_a_process_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 1000; done"
    log = tmp_path / "a.log"

    async def says_up() -> bool:
        return log.read_text() == "up\n"

    spec = ProcessSpec(name="a", argv=["sh", "-c", script], healthy=says_up, grace_seconds=0.2)
    async with Supervisor([spec], tmp_path) as supervisor:
        pid = supervisor.pid("a")
        assert pid is not None
    assert is_gone(pid)
    assert supervisor.events[-1].returncode == -signal.SIGKILL


async def test_two_processes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same name"):
        Supervisor([sleeper("a"), sleeper("a")], tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_supervisors_process_that_is_killed_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from outreach.local.supervisor import ProcessSpec, Supervisor

        stubborn = "trap '' TERM; sleep 1000 & echo $!; wait; wait"
        specs = [
            ProcessSpec(name="a", argv=["sleep", "1000"]),
            ProcessSpec(name="b", argv=["sh", "-c", stubborn], grace_seconds=0.2),
        ]

        async def main():
            async with Supervisor(specs, Path({str(tmp_path)!r})) as supervisor:
                ids = [supervisor.pid(name) for name in "ab"]
                ids += [supervisor.tether_pid(name) for name in "ab"]
                print(*ids, flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
    """)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    log = tmp_path / "b.log"
    pids.append(int(await eventually(lambda: log.exists() and log.read_text(), what="b's line")))
    assert len(pids) == 5
    assert not any(is_gone(pid) for pid in pids)
    parent.send_signal(number)
    assert await parent.stdout.read() == b""
    assert await parent.wait() == -number
    await eventually(lambda: all(is_gone(pid) for pid in pids), what="all processes gone")


def test_a_log_is_bounded_and_gives_its_end(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "a.log", bytes_max=100)
    for number in range(50):
        log.write(b"line %d\n" % number)
    assert list(log.last_lines(2)) == ["line 48", "line 49"]
    log.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.log", "a.log.1"]
    assert all(0 < size <= 100 for size in sizes)
