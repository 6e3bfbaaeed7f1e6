"""Ties a child process to its parent's life: when the parent dies, however, the child ends.

    python -m outreach.local.tether [options] -- command [argument ...]

The parent starts the tether with a pipe as its standard input and keeps the other end open.
The kernel closes that end when the parent dies, also by SIGKILL, and the tether then ends the
child: first the stop signal, after the grace SIGKILL to its whole process group. Works the same on
Linux and macOS. When the tether itself is killed, Linux kills the child (PR_SET_PDEATHSIG).

SIGTERM and SIGINT to the tether ask the child to stop with the stop signal (PostgreSQL's fast
shutdown is SIGINT). The tether ends as the child ended: same exit code, or same signal.

This file imports the standard library only and is started by its path, without site-packages:
a tether costs one small process and some 20 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_STDIN = 0
# 127 and 126 are what a shell answers for a command that is missing or may not be run.
EXIT_NOT_FOUND = 127
EXIT_NOT_EXECUTABLE = 126


def tether_command(
    argv: Sequence[str],
    *,
    grace_seconds: float = 10.0,
    stop_signal: signal.Signals = signal.SIGTERM,
    pid_fd: int | None = None,
    user: str | None = None,
) -> list[str]:
    """The command that runs `argv` under a tether; start it with `stdin` as a pipe.

    Args:
        argv: the child's command and arguments.
        grace_seconds: between the stop signal and SIGKILL.
        stop_signal: what asks the child to stop.
        pid_fd: an inherited descriptor (`pass_fds`) to which the child's process id is written as
            one line; it is closed without a line when the child could not be started.
        user: the system user to run the child as; needs root.
    """
    command = [sys.executable, "-I", "-S", __file__]
    command += ["--grace-seconds", str(grace_seconds), "--stop-signal", stop_signal.name]
    if pid_fd is not None:
        command += ["--pid-fd", str(pid_fd)]
    if user is not None:
        command += ["--user", user]
    return [*command, "--", *argv]


def _die_with_parent(tether_pid: int) -> Callable[[], None] | None:
    """What the child does between fork and exec so that it dies with the tether (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != tether_pid:  # the tether died before the line above
            os._exit(EXIT_NOT_EXECUTABLE)

    return ask_kernel


class _Tether:
    """One child, its pipe to the parent, and the way both end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._stop_requested = False

    def run(self) -> int:
        """Run the child to its end; the answer is `subprocess`'s return code."""
        # The handlers come first: a signal that arrives while the child starts must not be lost.
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, self._note_child)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        child = self._start()
        self._tell_pid(child.pid)
        while child.poll() is None:
            if self._stop_requested or self._wait_for_event():
                self._ask_to_stop(child)
                break
        self._kill_group(child)
        return child.wait()

    def _note_child(self, _number: int, _frame: FrameType | None) -> None:
        """SIGCHLD only has to wake the loop, which the wake-up descriptor does."""

    def _note_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requested = True

    def _start(self) -> subprocess.Popen[bytes]:
        user = self._options.user
        account = pwd.getpwnam(user) if user else None
        return subprocess.Popen(
            self._options.command,
            stdin=subprocess.DEVNULL,
            # The child's group of its own lets the last SIGKILL reach what the child started.
            process_group=0,
            preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 (one thread only)
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    def _tell_pid(self, pid: int) -> None:
        if self._options.pid_fd is not None:
            os.write(self._options.pid_fd, b"%d\n" % pid)
            os.close(self._options.pid_fd)

    def _wait_for_event(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a signal, the child's end or the parent's; true when the parent is gone."""
        ready, _, _ = select.select([_STDIN, self._wake_read], [], [], timeout_seconds)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        # The parent never writes: readable means end of file, which means it is gone.
        return _STDIN in ready and os.read(_STDIN, 4096) == b""

    def _ask_to_stop(self, child: subprocess.Popen[bytes]) -> None:
        """Send the stop signal and give the child its grace."""
        deadline = time.monotonic() + self._options.grace_seconds
        child.send_signal(signal.Signals[self._options.stop_signal])
        while child.poll() is None and time.monotonic() < deadline:
            remaining_seconds = max(0.0, deadline - time.monotonic())
            if select.select([self._wake_read], [], [], remaining_seconds)[0]:
                os.read(self._wake_read, 4096)

    def _kill_group(self, child: subprocess.Popen[bytes]) -> None:
        """Leave nothing behind, also what a child that died by itself had started."""
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the usual case: nothing of the group is left
        except PermissionError:
            child.kill()  # macOS answers so for a group of zombies


def _exit_like(returncode: int) -> NoReturn:
    """End this process as the child ended, so that whoever waits sees the true cause."""
    if returncode < 0:
        number = -returncode
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Not reached for a signal that ends a process; the shell's convention for the others.
        returncode = 128 + number
    sys.exit(returncode)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="outreach.local.tether")
    parser.add_argument("--grace-seconds", type=float, default=10.0)
    parser.add_argument(
        "--stop-signal", default="SIGTERM", choices=[s.name for s in signal.Signals]
    )
    parser.add_argument("--pid-fd", type=int)
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command after `--` until it, or the parent, ends."""
    options = _arguments(sys.argv[1:] if argv is None else argv)
    try:
        returncode = _Tether(options).run()
    except FileNotFoundError as error:
        sys.stderr.write(f"tether: not found: {error.filename}\n")
        sys.exit(EXIT_NOT_FOUND)
    except PermissionError as error:
        sys.stderr.write(f"tether: may not be run: {error.filename}\n")
        sys.exit(EXIT_NOT_EXECUTABLE)
    _exit_like(returncode)


if __name__ == "__main__":
    main()
