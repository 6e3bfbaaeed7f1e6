"""The NATS connection of a process, where there is no server."""

import asyncio

import pytest
from nats.aio.client import Client

from outreach.jetstream.connection import nats_connection


async def test_a_swallowed_cancellation_keeps_no_process_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `asyncio.wait_for` swallows one when the try to connect fails in the same turn of the loop."""
    swallowed = 0

    async def find_server(_: Client) -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    monkeypatch.setattr(Client, "_select_next_server", find_server)
    async with asyncio.timeout(60), nats_connection("nats://127.0.0.1:9", name="test"):
        await asyncio.sleep(0)
    assert swallowed == 3
