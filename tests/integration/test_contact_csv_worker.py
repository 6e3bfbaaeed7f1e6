"""The import in its own process: same results, bounded, and gone whatever happens."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import psutil
import pytest

from outreach.vocabulary import Channel
from services.campaign.contacts.errors import ContactFileError
from services.campaign.contacts.importer import ContactImport, ImportSpec
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole, Mapping
from services.campaign.contacts.worker import ContactWorkerError, import_in_worker

MAPPING = Mapping(
    (
        ColumnMapping("phone", ColumnRole.DESTINATION),
        ColumnMapping("name", ColumnRole.CUSTOM_VARIABLE, "name"),
    )
)
SPEC = ImportSpec(UUID(int=7), Channel.SMS, "utf-8", ",", True, MAPPING, b"key", batch_rows_max=500)
DATA = (
    b"phone,name\n"
    + b"".join(b"+4477009%05d,N\xc3\xa9 %d\n" % (n, n) for n in range(5_000))
    + b"bad,x\n" * 700
)


async def chunks(data: bytes = DATA, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def endless() -> AsyncIterator[bytes]:
    yield b"phone,name\n"
    while True:
        yield b"bad,x\n" * 10_000


async def consume(source: AsyncIterator[bytes], *, timeout_seconds: float = 60.0) -> int:
    count = 0
    async with import_in_worker(source, SPEC, timeout_seconds=timeout_seconds) as batches:
        async for _ in batches:
            count += 1
    return count


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if _is_worker(child)]


def _is_worker(child: psutil.Process) -> bool:
    try:
        return (
            child.status() != psutil.STATUS_ZOMBIE
            and "services.campaign.contacts.worker" in child.cmdline()
        )
    except psutil.NoSuchProcess:  # PostgreSQL's own processes come and go
        return False


@pytest.fixture(autouse=True)
def _no_worker_is_left_behind() -> Iterator[None]:
    yield
    assert workers() == []


async def test_the_worker_gives_what_the_import_gives() -> None:
    running = ContactImport(SPEC)
    expected = [
        batch
        for start in range(0, len(DATA), 10_000)
        for batch in running.feed(DATA[start : start + 10_000])
    ]
    expected += running.finish()
    async with import_in_worker(chunks(), SPEC) as batches:
        found = [batch async for batch in batches]
    assert found == expected
    assert found[-1].counts.imported == 5_000


async def test_a_refused_file_is_refused_by_name() -> None:
    data = DATA + b'+447700900999,"open\n'
    with pytest.raises(ContactFileError) as caught:
        await consume(chunks(data))
    assert caught.value.reason == "FILE_MALFORMED"
    assert caught.value.metadata == {"problem": "UNCLOSED_QUOTE", "row": "5702"}
    assert caught.value.field == "file"


async def test_a_file_refused_while_it_is_still_being_fed() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"phone,name\n\0"
        async for chunk in endless():
            yield chunk

    with pytest.raises(ContactFileError) as caught:
        await consume(broken())
    assert caught.value.reason == "FILE_NOT_CSV"


async def test_a_killed_worker_is_an_error() -> None:
    async def kill_while_it_works() -> None:
        async with import_in_worker(endless(), SPEC) as batches:
            async for batch in batches:
                if batch.counts.rows == 500:
                    [worker] = workers()
                    worker.kill()

    with pytest.raises(ContactWorkerError, match="ended early, code -9"):
        await kill_while_it_works()


async def test_an_error_of_the_source_comes_through() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield DATA[:1_000]
        raise ConnectionError("the upload broke off")

    with pytest.raises(ConnectionError, match="the upload broke off"):
        await consume(failing())


async def test_an_error_of_the_caller_comes_through() -> None:
    async def fail() -> None:
        async with import_in_worker(endless(), SPEC) as batches:
            async for _ in batches:
                raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()


async def test_leaving_early_ends_the_worker() -> None:
    async with import_in_worker(endless(), SPEC) as batches:
        async for _ in batches:
            break
        assert len(workers()) == 1
    assert workers() == []


async def test_cancelling_ends_the_worker() -> None:
    started = asyncio.Event()

    async def run() -> None:
        async with import_in_worker(endless(), SPEC) as batches:
            async for _ in batches:
                started.set()

    task = asyncio.create_task(run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert workers() == []


async def test_a_stalled_worker_runs_out_of_time() -> None:
    async def stall() -> None:
        async with import_in_worker(endless(), SPEC, timeout_seconds=1.0) as batches:
            [worker] = workers()
            os.kill(worker.pid, signal.SIGSTOP)
            async for _ in batches:
                pass

    with pytest.raises(ContactWorkerError, match="too long"):
        await stall()


async def test_a_slow_consumer_holds_the_source_back() -> None:
    flooded = asyncio.Event()

    async def counted() -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in endless():
            taken += len(chunk)
            if taken > 1_000_000:
                flooded.set()
            yield chunk

    async with import_in_worker(counted(), SPEC) as batches:
        async for _ in batches:
            break
        # Nothing more is fetched: the source must stand still once the pipes are full, which at
        # the worker's rate is after a few milliseconds; 1 MB would take it less than a second.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flooded.wait(), timeout=2)
        async for batch in batches:
            if batch.counts.bytes_read > 1_000_000:
                break
        assert flooded.is_set()


async def test_the_worker_ends_with_its_standard_input() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.campaign.contacts.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(60):
        assert await process.wait() == 1


async def test_a_broken_worker_says_where_and_shows_no_data() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.campaign.contacts.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(b"\x01\x00\x00\x00\x08[secret]")
    assert process.returncode == 1
    assert b"JSONDecodeError in frames.py" in out
    assert b"secret" not in out + err
