"""NATS that loses, forgets or refuses what it should store, and jobs that come again."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import psutil
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from chaos.faults.fault import RECEIPT_PATIENCE_SECONDS, Fault, FaultKind, Topology
from chaos.faults.processes import continue_tree, stop_tree
from chaos.stack import ChaosStack
from outreach.jetstream.connection import NATS_FAULTS
from outreach.jetstream.topology import INBOX_STREAM, JOBS_STREAM, jobs_consumer
from outreach.vocabulary import Channel

_NATS: Final = "nats"
#: Long enough to change its files, which are few.
_DOWN_SECONDS: Final = 1.5
_ROLLED_BACK_SECONDS_LONG: Final = 120.0
_FULL_SECONDS: Final = (1.0, 3.0, 8.0)
_JOBS_AGAIN_MAX: Final = 200
_BETWEEN_ROUNDS_SECONDS: Final = 0.5
_READY_SECONDS_MAX: Final = 120.0
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiped(Fault):
    """NATS is killed and comes back with an empty store: no stream, no consumer, no message."""

    async def inject(self, stack: ChaosStack) -> None:
        async with _down(stack) as store:
            await asyncio.to_thread(shutil.rmtree, store)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(Fault):
    """NATS is killed and comes back with the store that it had `seconds` before: what was acknowledged since is
    there again, and what was stored since is gone.
    """

    seconds: float

    async def inject(self, stack: ChaosStack) -> None:
        kept = stack.data_dir / "nats-kept"
        await self._keep(stack, kept)
        try:
            await asyncio.sleep(self.seconds)
            async with _down(stack) as store:
                await asyncio.to_thread(shutil.rmtree, store)
                await asyncio.to_thread(shutil.move, kept, store)
        finally:
            await asyncio.to_thread(shutil.rmtree, kept, ignore_errors=True)

    async def _keep(self, stack: ChaosStack, kept: Path) -> None:
        """A copy of the store, taken while nothing is written."""
        pid = stack.local.supervisor.pid(_NATS)
        stopped = stop_tree(pid) if pid is not None else []
        try:
            await asyncio.to_thread(shutil.copytree, stack.local.nats.store_dir, kept)
        finally:
            continue_tree(stopped)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFull(Fault):
    """JetStream refuses to store anything for a while: its streams' limits are what is stored already.

    Nothing that is stored goes; a publisher is told at once (error 10077).
    """

    seconds: float

    async def inject(self, stack: ChaosStack) -> None:
        jetstream = await _ready(stack)
        configs = [
            (await jetstream.stream_info(name)).config for name in (JOBS_STREAM, INBOX_STREAM)
        ]
        try:
            for config in configs:
                await jetstream.update_stream(replace(config, max_bytes=1))
            await asyncio.sleep(self.seconds)
        finally:
            for config in configs:
                await jetstream.update_stream(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFull(Fault):
    """NATS can't write to its files for a while (Linux: its limit of a file's size is 0), as with a full disk.

    Publishers get no answer then. NATS does not recover from a failed write by itself; so when there is room again it
    is restarted, as its own health check asks for.
    """

    seconds: float

    async def inject(self, stack: ChaosStack) -> None:
        assert sys.platform == "linux"
        pid = stack.local.supervisor.pid(_NATS)
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                nats = psutil.Process(pid)
                _, hard = nats.rlimit(psutil.RLIMIT_FSIZE)
                nats.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
        await asyncio.sleep(self.seconds)
        await stack.kill(_NATS, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsRedelivered(Fault):
    """Jobs that were published are published again, as other messages, also those that were done; and what waits for
    its acknowledgement is handed out anew, because the consumers are gone and made again.
    """

    rounds: int
    seed: int

    async def inject(self, stack: ChaosStack) -> None:
        random, jetstream = Random(self.seed), await _ready(stack)
        for round_number in range(self.rounds):
            if round_number:
                await asyncio.sleep(_BETWEEN_ROUNDS_SECONDS)
            for channel in Channel:
                with suppress(NotFoundError):
                    consumer = jobs_consumer(channel).durable_name
                    await jetstream.delete_consumer(JOBS_STREAM, consumer or "")
            jobs = [*stack.published_jobs]
            for subject, data in random.sample(jobs, min(len(jobs), _JOBS_AGAIN_MAX)):
                headers = {"Nats-Msg-Id": str(uuid.UUID(int=random.getrandbits(128)))}
                await jetstream.publish(subject, data, headers=headers)


@asynccontextmanager
async def _down(stack: ChaosStack) -> AsyncIterator[Path]:
    """NATS is down in the block; gives its store's directory, to be changed in it. Up again afterwards."""
    supervisor = stack.local.supervisor
    pid = supervisor.kill(_NATS, down_seconds=_DOWN_SECONDS)
    await stack.ended(_NATS, pid)
    yield stack.local.nats.store_dir
    await stack.restarted(_NATS, pid)


async def _ready(stack: ChaosStack) -> JetStreamContext:
    """JetStream, with its streams: they are made again some time after it has lost its store."""
    async with asyncio.timeout(_READY_SECONDS_MAX):
        while True:
            try:
                stack.nats.require()
                for name in (JOBS_STREAM, INBOX_STREAM):
                    await stack.nats.jetstream.stream_info(name)
            except NATS_FAULTS:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return stack.nats.jetstream


def _wiped(_random: Random, _topology: Topology, _long: bool) -> Fault:
    return Wiped(kind="nats-wiped", target=_NATS, receipts_lost=True)


def _rolled_back(random: Random, _topology: Topology, long: bool) -> Fault:
    seconds = _ROLLED_BACK_SECONDS_LONG if long else random.choice((0.5, 2.0, 5.0))
    return RolledBack(kind="nats-rolled-back", target=_NATS, seconds=seconds, receipts_lost=True)


def _store_full(random: Random, _topology: Topology, _long: bool) -> Fault:
    seconds = random.choice(_FULL_SECONDS)
    return StoreFull(
        kind="nats-store-full",
        target=_NATS,
        seconds=seconds,
        receipts_lost=seconds > RECEIPT_PATIENCE_SECONDS,
    )


def _disk_full(random: Random, _topology: Topology, _long: bool) -> Fault:
    seconds = random.choice(_FULL_SECONDS)
    return DiskFull(
        kind="nats-disk-full",
        target=_NATS,
        seconds=seconds,
        receipts_lost=seconds > RECEIPT_PATIENCE_SECONDS,
    )


def _jobs_redelivered(random: Random, _topology: Topology, _long: bool) -> Fault:
    return JobsRedelivered(
        kind="jobs-redelivered",
        target=_NATS,
        rounds=random.randint(1, 3),
        seed=random.randrange(2**32),
    )


KINDS: Final = (
    FaultKind("nats-wiped", "NATS dies and comes back empty.", _wiped),
    FaultKind("nats-rolled-back", "NATS dies and comes back as it was before.", _rolled_back),
    FaultKind("nats-store-full", "JetStream refuses to store for seconds.", _store_full),
    FaultKind("jobs-redelivered", "Jobs come again, also those that were done.", _jobs_redelivered),
    *(
        (FaultKind("nats-disk-full", "NATS can't write to its disk for seconds.", _disk_full),)
        if sys.platform == "linux"
        else ()
    ),
)
