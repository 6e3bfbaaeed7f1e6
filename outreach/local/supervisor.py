"""Starts the processes of a local stack in stages, keeps them running, and stops them all.

Every process runs under a tether (`outreach.local.tether`), so nothing outlives the supervisor,
however it ends. A process that dies is started again after a pause that doubles from
`BACKOFF_SECONDS_MIN` to `BACKOFF_SECONDS_MAX` and starts small again once the process has been
healthy for `BACKOFF_RESET_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from outreach.local.process_log import ProcessLog
from outreach.local.read_pipe import ReadPipe
from outreach.local.tether import tether_command

BACKOFF_SECONDS_MIN = 0.2
BACKOFF_SECONDS_MAX = 5.0
BACKOFF_RESET_SECONDS = 30.0
HEALTH_INTERVAL_SECONDS = 0.05
HEALTH_CALL_SECONDS_MAX = 5.0
EVENTS_KEPT_MAX = 1_000
_TETHER_MARGIN_SECONDS = 5.0
_OUTPUT_DRAIN_SECONDS = 1.0

HealthCheck = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """What to run, and what "it runs" means.

    Attributes:
        name: unique; also the name of its log file.
        argv: the command; no shell.
        env: added to this process's environment.
        healthy: true once the process does its work; it must return False, not raise, as long as
            nothing answers. None: healthy as soon as started.
        prepare: awaited before each start, also a restart (a data directory, a stale lock).
        ready_seconds_max: from start to healthy.
        stage: processes of a stage start together once all of the stage before are healthy; they
            stop in the opposite order.
        stop_signal: what asks the process to stop; SIGKILL follows after `grace_seconds`.
        user: the system user to run as; needs root.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    healthy: HealthCheck | None = None
    prepare: Callable[[], Awaitable[None]] | None = None
    ready_seconds_max: float = 60.0
    stage: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    user: str | None = None
    cwd: Path | None = None


class EventKind(Enum):
    """What happened to a process."""

    STARTED = "started"
    HEALTHY = "healthy"
    NOT_READY = "not ready in time"
    DIED = "died"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ProcessEvent:
    """One event; `returncode` is set when the process ended (negative: minus the signal)."""

    name: str
    kind: EventKind
    pid: int | None
    returncode: int | None
    at_monotonic_seconds: float


class StartFailed(Exception):
    """A process did not become healthy at the first start; says which, with its last lines."""

    def __init__(self, name: str, why: str, log_path: Path, last_lines: Sequence[str]) -> None:
        self.name = name
        self.last_lines = tuple(last_lines)
        tail = "\n".join(f"  {line}" for line in last_lines) or "  (it wrote nothing)"
        super().__init__(f"{name} {why}; the end of {log_path}:\n{tail}")


class _Process:
    """One supervised process: its spec, and what is known of it now."""

    def __init__(self, spec: ProcessSpec, log: ProcessLog) -> None:
        self.spec = spec
        self.log = log
        self.pid: int | None = None
        self.tether: asyncio.subprocess.Process | None = None
        self.healthy = False
        self.came_up = False
        self.task: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        self.down_until_monotonic_seconds = 0.0
        self.first_start: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Supervisor:
    """The processes of a stack; use it as an async context manager.

    Entering starts every stage and returns when all processes are healthy, or raises
    `StartFailed` after it has stopped what ran. Leaving stops everything in reverse order.

    Args:
        specs: the processes, any order; `stage` decides.
        log_dir: gets one `<name>.log` a process, with the one before it as `<name>.log.1`.
        on_event: called for every event, in the event loop; it must not block.
        restart: start a process again that dies.
        log_bytes_max: size at which a log file is put aside.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        log_dir: Path,
        *,
        on_event: Callable[[ProcessEvent], None] | None = None,
        restart: bool = True,
        log_bytes_max: int = 10_000_000,
    ) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError(f"two processes have the same name: {sorted(names)}")
        self._specs = list(specs)
        self._log_dir = log_dir
        self._log_bytes_max = log_bytes_max
        self._on_event = on_event
        self._restart = restart
        self._processes: dict[str, _Process] = {}
        self._group = asyncio.TaskGroup()
        self._changed = asyncio.Condition()
        self.events: deque[ProcessEvent] = deque(maxlen=EVENTS_KEPT_MAX)

    async def __aenter__(self) -> Self:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        await self._group.__aenter__()
        try:
            for stage in sorted({spec.stage for spec in self._specs}):
                await self._start_stage([spec for spec in self._specs if spec.stage == stage])
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.stop()
        finally:
            # Cut off here (a second Ctrl-C), the tethers end their children by themselves.
            for process in self._processes.values():
                process.stopping.set()
                _let_go(process)
                if not process.first_start.done():
                    process.first_start.cancel()
                elif not process.first_start.cancelled():
                    process.first_start.exception()  # seen: raised to the caller, or moot
            await self._group.__aexit__(None, None, None)

    async def stop(self) -> None:
        """Stop every process, last stage first; returns when all have ended."""
        for stage in sorted({p.spec.stage for p in self._processes.values()}, reverse=True):
            async with asyncio.TaskGroup() as group:
                for process in self._processes.values():
                    if process.spec.stage == stage:
                        group.create_task(self._stop_one(process))

    def pid(self, name: str) -> int | None:
        """The process's own id (not its tether's), or None while it is down."""
        return self._processes[name].pid

    def tether_pid(self, name: str) -> int | None:
        """The id of the process's tether, or None while it is down."""
        tether = self._processes[name].tether
        return tether.pid if tether is not None else None

    def log_path(self, name: str) -> Path:
        """Where the process's output goes."""
        return self._processes[name].log.path

    def kill(
        self, name: str, number: signal.Signals = signal.SIGKILL, *, down_seconds: float = 0.0
    ) -> int:
        """Send a signal to the process itself; for tests of faults.

        Args:
            name: which process.
            number: the signal.
            down_seconds: if it dies, it is not started again before this time has passed.

        Returns:
            The process id that got the signal, for `wait_restarted`.

        Raises:
            ProcessLookupError: the process is down.
        """
        process = self._processes[name]
        if process.pid is None:
            raise ProcessLookupError(f"{name} is down")
        process.down_until_monotonic_seconds = time.monotonic() + down_seconds
        os.kill(process.pid, number)
        return process.pid

    async def wait_restarted(self, name: str, old_pid: int, timeout_seconds: float = 60.0) -> int:
        """Wait until another process than `old_pid` is healthy under this name; its id.

        Raises:
            TimeoutError: it did not happen in time.
        """
        process = self._processes[name]
        async with asyncio.timeout(timeout_seconds), self._changed:
            await self._changed.wait_for(
                lambda: process.healthy and process.pid not in (None, old_pid)
            )
        assert process.pid is not None
        return process.pid

    async def _start_stage(self, specs: Sequence[ProcessSpec]) -> None:
        processes = []
        for spec in specs:
            log = ProcessLog(self._log_dir / f"{spec.name}.log", bytes_max=self._log_bytes_max)
            process = self._processes[spec.name] = _Process(spec, log)
            processes.append(process)
            process.task = self._group.create_task(self._keep(process), name=f"keep-{spec.name}")
        await asyncio.gather(*(process.first_start for process in processes))

    async def _keep(self, process: _Process) -> None:
        """Run one process, again and again, until it is to stop."""
        pause_seconds = BACKOFF_SECONDS_MIN
        try:
            while not process.stopping.is_set():
                started = time.monotonic()
                await self._run_once(process)
                # What never came up is a failure of the start, which has been told by then.
                if process.stopping.is_set() or not self._restart or not process.came_up:
                    return
                if time.monotonic() - started > BACKOFF_RESET_SECONDS:
                    pause_seconds = BACKOFF_SECONDS_MIN
                down_seconds = process.down_until_monotonic_seconds - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(pause_seconds, down_seconds)):
                        await process.stopping.wait()
                pause_seconds = min(pause_seconds * 2, BACKOFF_SECONDS_MAX)
        finally:
            process.log.close()

    async def _run_once(self, process: _Process) -> None:
        """From start to end of one life of the process."""
        if not await self._prepare(process):
            return
        output = await ReadPipe.open()
        try:
            process.tether, process.pid = await _launch(process.spec, output)
            if process.stopping.is_set():
                _signal(process.tether, signal.SIGTERM)  # stopped while it was being started
            returncode = await self._follow(process, process.tether, output)
        finally:
            output.close()
            _let_go(process)
        if process.pid is not None:
            _kill_group(process.pid)
        ended = EventKind.STOPPED if process.stopping.is_set() else EventKind.DIED
        pid, process.pid, process.tether, process.healthy = process.pid, None, None, False
        await self._tell(process, ended, pid=pid, returncode=returncode)
        if not process.first_start.done():
            why = f"ended with {_say_returncode(returncode)} before it was healthy"
            process.first_start.set_exception(self._start_failed(process, why))

    async def _follow(
        self, process: _Process, tether: asyncio.subprocess.Process, output: ReadPipe
    ) -> int:
        """Log its output and tell when it is healthy, until it ends; its return code."""
        async with asyncio.TaskGroup() as group:
            copying = group.create_task(_copy_output(output, process.log))
            await self._tell(process, EventKind.STARTED)
            readiness = group.create_task(self._watch_readiness(process))
            returncode = await tether.wait()
            readiness.cancel()
            # What the process left running may hold its output open for ever.
            await asyncio.wait([copying], timeout=_OUTPUT_DRAIN_SECONDS)
            copying.cancel()
        return returncode

    async def _prepare(self, process: _Process) -> bool:
        """Do what comes before a start; false when the process is not to be started."""
        if process.spec.prepare is not None:
            try:
                await process.spec.prepare()
            except Exception as error:
                if process.stopping.is_set() or process.first_start.cancelled():
                    return False  # a Ctrl-C at a terminal also ends what it had started
                if process.came_up:
                    raise
                process.first_start.set_exception(error)  # raised by `__aenter__`
                return False
        return not process.stopping.is_set()

    async def _watch_readiness(self, process: _Process) -> None:
        """Tell when the process is healthy; end it when it is not in time.

        Polled: another process's health sends us no event.
        """
        spec = process.spec
        try:
            async with asyncio.timeout(spec.ready_seconds_max):
                while not await _is_healthy(spec):  # noqa: ASYNC110
                    await asyncio.sleep(HEALTH_INTERVAL_SECONDS)
        except TimeoutError:
            await self._tell(process, EventKind.NOT_READY)
            if not process.first_start.done():
                why = f"was not healthy within {spec.ready_seconds_max:g} s"
                process.first_start.set_exception(self._start_failed(process, why))
            if process.tether is not None:
                _signal(process.tether, signal.SIGTERM)
            return
        process.healthy = process.came_up = True
        if not process.first_start.done():
            process.first_start.set_result(None)
        await self._tell(process, EventKind.HEALTHY)

    async def _stop_one(self, process: _Process) -> None:
        process.stopping.set()
        if process.task is None:
            return
        if process.tether is not None:
            _signal(process.tether, signal.SIGTERM)
        patience_seconds = process.spec.grace_seconds + _TETHER_MARGIN_SECONDS
        await asyncio.wait([process.task], timeout=patience_seconds)
        if not process.task.done() and process.tether is not None:
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            _signal(process.tether, signal.SIGKILL)
        await asyncio.wait([process.task])

    def _start_failed(self, process: _Process, why: str) -> StartFailed:
        log = process.log
        return StartFailed(process.spec.name, why, log.path, log.last_lines())

    async def _tell(
        self,
        process: _Process,
        kind: EventKind,
        *,
        pid: int | None = None,
        returncode: int | None = None,
    ) -> None:
        event = ProcessEvent(
            process.spec.name, kind, pid or process.pid, returncode, time.monotonic()
        )
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)
        async with self._changed:
            self._changed.notify_all()


async def _is_healthy(spec: ProcessSpec) -> bool:
    if spec.healthy is None:
        return True
    try:
        async with asyncio.timeout(HEALTH_CALL_SECONDS_MAX):
            return await spec.healthy()
    except TimeoutError:
        return False  # one call hung; `ready_seconds_max` decides about the process


async def _launch(
    spec: ProcessSpec, output: ReadPipe
) -> tuple[asyncio.subprocess.Process, int | None]:
    """Start the process under its tether; its id is None if the command could not be run."""
    pid_pipe = await ReadPipe.open()
    try:
        command = tether_command(
            spec.argv,
            grace_seconds=spec.grace_seconds,
            stop_signal=spec.stop_signal,
            pid_fd=pid_pipe.write_fd,
            user=spec.user,
        )
        tether = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=output.write_fd,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **spec.env},
            cwd=spec.cwd,
            pass_fds=(pid_pipe.write_fd,),
            # Ctrl-C in the terminal reaches the supervisor only, which stops in order.
            start_new_session=True,
        )
        pid_pipe.close_write_end()
        output.close_write_end()
        line = await pid_pipe.reader.readline()
    finally:
        pid_pipe.close()
    return tether, int(line) if line else None


async def _copy_output(output: ReadPipe, log: ProcessLog) -> None:
    while chunk := await output.reader.read(65_536):
        log.write(chunk)


def _let_go(process: _Process) -> None:
    """Close the pipe that holds the tether: it ends the child if that still runs."""
    if process.tether is not None and process.tether.stdin is not None:
        process.tether.stdin.close()


def _signal(tether: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        tether.send_signal(number)


def _kill_group(pid: int) -> None:
    """What a killed tether could not end: the child's group has the child's id."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; zombies on macOS
        os.killpg(pid, signal.SIGKILL)


def _say_returncode(returncode: int) -> str:
    if returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit code {returncode}"
