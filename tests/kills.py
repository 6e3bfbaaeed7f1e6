"""Ends processes of a local stack."""

from __future__ import annotations

import signal

from outreach.client import Timeouts
from outreach.local.stack import LocalStack

RESTART_SECONDS_MAX = 240.0
#: Of a client of a stack whose parts come back one after the other, on a slow machine.
PATIENT = Timeouts(call_seconds=90.0, retry_seconds_max=180.0)


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
