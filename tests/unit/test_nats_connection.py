"""The NATS connection of a process, where there is no server."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from outreach.jetstream.connection import nats_connection


async def test_a_swallowed_cancellation_keeps_no_process_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `asyncio.wait_for` swallows one when the try to connect fails in the same turn of the loop."""
    swallowed = 0

    async def connect(_: Client, **__: Any) -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    monkeypatch.setattr(Client, "connect", connect)
    async with asyncio.timeout(60), nats_connection("nats://127.0.0.1:9", name="test"):
        await asyncio.sleep(0)
    assert swallowed == 3
