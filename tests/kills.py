"""Ends processes of a local stack."""

from __future__ import annotations

import signal

from outreach.local.stack import LocalStack

RESTART_SECONDS_MAX = 90.0


async def kill(
    stack: LocalStack,
    name: str,
    number: signal.Signals = signal.SIGKILL,
    *,
    down_seconds: float = 0.0,
) -> None:
    """End the process and wait until another one is healthy in its place."""
    pid = stack.supervisor.kill(name, number, down_seconds=down_seconds)
    await stack.supervisor.wait_restarted(name, pid, RESTART_SECONDS_MAX)
