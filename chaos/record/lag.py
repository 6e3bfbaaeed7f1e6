"""How late this machine is: what the provider's double reads, it may have been sent seconds ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aiohttp

from chaos.history import FaultDone
from outreach.local.sandbox_client import SandboxClient, SandboxRefused

_PAUSE_SECONDS = 0.2


class Lag:
    """Small questions to the provider's double, one after the other, and how long each round took beyond its pause.

    So it is the double's lag, and that of this process, whose relays the requests go through.
    """

    def __init__(self) -> None:
        self._rounds: list[tuple[float, float]] = []

    @asynccontextmanager
    async def measured(self, sandbox: SandboxClient) -> AsyncIterator[None]:
        """While in it."""
        measuring = asyncio.create_task(self._measure(sandbox))
        try:
            yield
        finally:
            measuring.cancel()
            with suppress(asyncio.CancelledError):
                await measuring

    async def _measure(self, sandbox: SandboxClient) -> None:
        while True:
            begun, begun_time = time.monotonic(), time.time()
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await sandbox.knobs()
            except (aiohttp.ClientError, SandboxRefused, OSError, TimeoutError):
                continue  # it is down; what comes of that is another fault's affair
            self._rounds.append((begun_time, time.monotonic() - begun - _PAUSE_SECONDS))

    def seconds_max(self, holding: Sequence[FaultDone]) -> float:
        """The largest outside of `holding`, the faults that hold requests and are allowed for by themselves."""
        return max(
            (
                seconds
                for begun, seconds in self._rounds
                if not any(
                    begun <= fault.ended_time
                    and begun + _PAUSE_SECONDS + seconds >= fault.begun_time
                    for fault in holding
                )
            ),
            default=0.0,
        )
