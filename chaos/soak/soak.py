"""A soak that goes on: two lanes of campaigns, a fault every so often, samples all the time."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import psutil

from chaos.history import Sampled
from chaos.resources import Sampler
from chaos.soak.checking import CampaignChecks
from chaos.soak.disturbance import Disturbance
from chaos.soak.lanes import Lane, LaneTerms
from chaos.soak.lives import Lives
from chaos.soak.options import SoakOptions
from chaos.soak.sample_file import SampleFile
from chaos.stack import ChaosStack
from outreach.client import OutreachClient
from outreach.vocabulary import Channel

SAMPLE_SECONDS = 10.0
_MINUTE_SECONDS = 60.0
#: After the last campaign has begun: it, its late webhooks, and a fault that is not over yet.
_END_SECONDS_MAX = 240.0


class Soak:
    """One soak on a running stack; `run` it once, and read what was found.

    Attributes:
        lives: all samples.
        failures: why it could not go on, or not as it should.
        rate: messages that the provider accepted a second, while campaigns were begun.
        interrupted: SIGINT or SIGTERM came before its end.
    """

    def __init__(self, options: SoakOptions, stack: ChaosStack) -> None:
        self.lives = Lives()
        self.failures: list[str] = []
        self.rate = 0.0
        self.seconds = 0.0
        self.interrupted = False
        self.disturbance = Disturbance(stack, options.topology, options.seed)
        self.checks = CampaignChecks(stack.local, self.disturbance, options.directory)
        self._options = options
        self._stack = stack
        self._sampler = Sampler(stack.local)
        self._begun = time.monotonic()

    async def run(self) -> None:
        """To the end, or until it is interrupted."""
        options = self._options
        async with AsyncExitStack() as opened:
            clients = [
                await opened.enter_async_context(self._stack.client(replica))
                for replica in range(options.topology.campaign_replicas)
            ]
            await opened.enter_async_context(self.checks)
            file = opened.enter_context(SampleFile(options.directory / "samples.csv"))
            self._begun = time.monotonic()
            beside: list[Coroutine[Any, Any, None]] = [
                self.checks.ledger.run(),
                self.checks.delete_old(),
                self._sample(file),
                self._tell(),
            ]
            if options.fault_every_seconds is not None:
                beside.append(self.disturbance.run(options.fault_every_seconds, options.seconds))
            try:
                async with _beside(*beside):
                    await self._send(clients)
            except* Exception as errors:  # noqa: BLE001 - the summary tells it
                self.failures += [f"{type(error).__name__}: {error}" for error in errors.exceptions]
            await self.checks.ledger.catch_up()
            self._note_rate()

    async def _send(self, clients: list[OutreachClient]) -> None:
        """All campaigns to their end, or until the interrupt."""
        lanes = [self._lane(channel, clients) for channel in Channel]
        with _interrupt() as interrupted:
            sending = asyncio.create_task(_together(*(lane.run() for lane in lanes)))
            others = [
                asyncio.create_task(interrupted.wait()),
                asyncio.create_task(asyncio.sleep(self._options.seconds + _END_SECONDS_MAX)),
            ]
            try:
                await asyncio.wait([sending, *others], return_when=asyncio.FIRST_COMPLETED)
                self.interrupted = interrupted.is_set()
                if sending.done():
                    sending.result()
                elif not self.interrupted:
                    self.failures.append("campaigns did not come to their end")
            finally:
                await _cancel([sending, *others])

    def _lane(self, channel: Channel, clients: list[OutreachClient]) -> Lane:
        options = self._options
        terms = LaneTerms(
            channel=channel,
            rate=options.rate / len(Channel),
            campaign_seconds=options.campaign_seconds,
            end_monotonic_seconds=self._begun + options.seconds,
            seed=options.seed,
        )
        return Lane(terms, clients, self.checks)

    async def _sample(self, file: SampleFile) -> None:
        supervisor = self._stack.local.supervisor
        own = psutil.Process()
        while True:
            samples = await self._sampler.sample()
            now = time.time()
            samples.append(
                Sampled(
                    source="soak",
                    time=now,
                    rss_bytes=own.memory_info().rss,
                    file_descriptors=own.num_fds(),
                )
            )
            pids = {name: supervisor.pid(name) for name in self._stack.local.process_names}
            self.lives.add(samples, pids)
            file.write(samples, pids)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _tell(self) -> None:
        """A line a minute."""
        minute, before = 0, 0
        while True:
            minute += 1
            await asyncio.sleep(self._begun + minute * _MINUTE_SECONDS - time.monotonic())
            accepted = self.checks.ledger.accepted
            print(self._line(minute, (accepted - before) / _MINUTE_SECONDS), flush=True)
            before = accepted
            self._note_rate()

    def _line(self, minute: int, rate: float) -> str:
        faults = self.disturbance.injected
        latest = f"{faults[-1].fault.kind} {faults[-1].fault.target}" if faults else "none yet"
        checks = self.checks
        return (
            f"minute {minute:>3}: {rate:5.0f} messages/s, {checks.checked} campaigns checked,"
            f" {len(checks.violations)} violations; latest fault {latest}"
        )

    def _note_rate(self) -> None:
        """While campaigns are begun: their ends, after that, would lower it."""
        seconds = time.monotonic() - self._begun
        if seconds <= self._options.seconds or not self.seconds:
            self.seconds, self.rate = seconds, self.checks.ledger.accepted / seconds


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(part)


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _beside(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these until the block ends; what one of them raises ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        yield
        for task in tasks:
            task.cancel()


@contextmanager
def _interrupt() -> Iterator[asyncio.Event]:
    """Set by SIGINT or SIGTERM, which end nothing meanwhile."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, interrupted.set)
    try:
        yield interrupted
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
