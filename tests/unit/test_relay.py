"""The relay of chaos runs: each fault does to plain sockets what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

import pytest

from chaos.relay import Direction, Relay
from tests.waiting import eventually

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1_000):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@asynccontextmanager
async def relayed(handler: Handler = echo) -> AsyncIterator[Relay]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()[1]) as relay:
        yield relay


@asynccontextmanager
async def connected(relay: Relay) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answered(ends: Ends, text: bytes = b"hello") -> bytes:
    reader, writer = ends
    writer.write(text)
    async with asyncio.timeout(60):
        return await reader.readexactly(len(text))


async def nothing_comes(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ends[0].read(1)


async def reset_of(ends: Ends) -> bytes:
    """What still came before the reset."""
    came = b""
    while True:
        try:
            data = await asyncio.wait_for(ends[0].read(1_000), 60)
        except ConnectionResetError:
            return came
        assert data, "an end in order is no reset"
        came += data


async def test_bytes_and_ends_pass_unchanged() -> None:
    payload = Random(1).randbytes(1_000_000)
    async with relayed() as relay, connected(relay) as (reader, writer):
        async with asyncio.TaskGroup() as tasks:
            received = tasks.create_task(reader.read(-1))
            writer.write(payload)
            await writer.drain()
            writer.write_eof()
        assert received.result() == payload
        await eventually(lambda: relay.connections == 0)


async def test_a_target_that_is_down_resets() -> None:
    async with Relay(1) as relay, connected(relay) as ends:
        assert await reset_of(ends) == b""


async def test_a_cut_resets_what_is_open_and_takes_new_connections() -> None:
    async with relayed() as relay, connected(relay) as ends:
        assert await answered(ends) == b"hello"
        assert relay.cut() == 1
        assert await reset_of(ends) == b""
        async with connected(relay) as again:
            assert await answered(again) == b"hello"


async def test_a_stall_forwards_nothing_and_then_goes_on() -> None:
    async with relayed() as relay, connected(relay) as old, AsyncExitStack() as later:
        assert await answered(old) == b"hello"
        async with relay.stalled():
            new = await later.enter_async_context(connected(relay))
            for ends in (old, new):
                ends[1].write(b"later")
                await nothing_comes(ends)
        for ends in (old, new):
            assert await asyncio.wait_for(ends[0].readexactly(5), 60) == b"later"


async def test_a_stall_of_one_direction_lets_the_other_one_pass() -> None:
    got: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            got.append(data)
            writer.write(data)

    async with relayed(note) as relay, connected(relay) as ends:
        assert await answered(ends) == b"hello"
        async with relay.stalled(frozenset({Direction.DOWN})):
            ends[1].write(b"later")
            await eventually(lambda: b"".join(got) == b"hellolater")
            await nothing_comes(ends)
        assert await asyncio.wait_for(ends[0].readexactly(5), 60) == b"later"


async def test_an_end_in_a_stall_is_told_after_it() -> None:
    async with relayed() as relay, connected(relay) as ends:
        assert await answered(ends) == b"hello"
        async with relay.stalled():
            ends[1].write_eof()
            await nothing_comes(ends)
        assert await asyncio.wait_for(ends[0].read(), 60) == b""


async def test_one_end_is_gone_and_the_other_is_not_told() -> None:
    ended = asyncio.Event()

    async def note_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            await echo(reader, writer)
        ended.set()

    async with relayed(note_the_end) as relay, connected(relay) as left:
        assert await answered(left) == b"hello"
        async with relay.half_open(Direction.UP):
            await asyncio.wait_for(ended.wait(), 60)
            left[1].write(b"lost")
            await nothing_comes(left)
            async with connected(relay) as whole:
                assert await answered(whole) == b"hello"
        await nothing_comes(left)
        left[1].write(b"to nobody")
        assert await reset_of(left) == b""


async def test_a_frame_is_torn_where_the_seed_says() -> None:
    payload = bytes(range(200))
    cut = Random(7).randrange(len(payload))
    async with relayed() as relay, connected(relay) as ends:
        assert await answered(ends) == b"hello"
        assert relay.reset_mid_frame(Random(7), Direction.DOWN) == 1
        ends[1].write(payload)
        assert await reset_of(ends) == payload[:cut]


async def test_bytes_trickle() -> None:
    async with relayed() as relay, connected(relay) as ends:
        began = asyncio.get_running_loop().time()
        async with relay.trickling(chunk_bytes=10, pause_seconds=0.01):
            assert await answered(ends, b"x" * 100) == b"x" * 100
        # Ten pieces, nine pauses between them; the loop's clock may be early by a tick.
        assert asyncio.get_running_loop().time() - began >= 0.08


async def test_new_connections_are_refused_and_old_ones_go_on() -> None:
    async with relayed() as relay, connected(relay) as old:
        assert await answered(old) == b"hello"
        async with relay.refusing():
            async with connected(relay) as new:
                assert await reset_of(new) == b""
            assert await answered(old) == b"hello"
        async with connected(relay) as new:
            assert await answered(new) == b"hello"
