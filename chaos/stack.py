"""A local stack that faults can reach: a relay on every link, every service under `chaos.process`."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from nats.aio.msg import Msg

from chaos.control import BREAK_VARIABLE, CONTROL_VARIABLE, Control
from chaos.relay import Relay
from outreach.client import OutreachClient
from outreach.jetstream.connection import NatsConnection, nats_connection
from outreach.local.embedded import temporary_data_dir
from outreach.local.stack import LocalStack, StackOptions

Link = tuple[str, str]
"""Who connects to whom, by the processes' names; `client` is everybody outside."""

#: Jobs that are remembered, to be published again.
JOBS_KEPT_MAX: Final = 5_000
RESTART_SECONDS_MAX: Final = 240.0
_JOBS: Final = "outreach.jobs.>"
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class ChaosOptions:
    """As in `StackOptions`.

    Attributes:
        break_name: a deliberate break of the product, of `chaos.breaks`, in every service; empty: none.
        relayed: the links that get a relay; None: all. A relay costs the machine more than some services do.
    """

    campaign_replicas: int = 1
    sender_replicas: int = 1
    email_sender_replicas: int = 1
    export_replicas: int = 1
    seed: str = "outreach"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    data_dir: Path | None = None
    durable: bool = True
    break_name: str = ""
    relayed: frozenset[Link] | None = None


class ChaosStack:
    """A running stack for faults; an async context manager. Its PostgreSQL and NATS are always its own.

    Attributes:
        local: the stack. Its own addresses lead through the relays where a link has one; its PostgreSQL, NATS and
            sandbox, asked by the test itself, are reached directly.
        links: the relay between two parts, where there is one.
        campaigns, senders, exports: the names of the services' processes; `services`: of all of them.
        crashes: process and point of each death at a crash point, in order.
        published_jobs: the latest jobs by subject and content, as they were published.
    """

    def __init__(self, options: ChaosOptions | None = None) -> None:
        self.options = options = options or ChaosOptions()
        self.campaigns = _numbered("campaign", options.campaign_replicas)
        self.senders = _numbered("sender-sms", options.sender_replicas)
        self.senders += _numbered("sender-email", options.email_sender_replicas)
        self.exports = _numbered("export", options.export_replicas)
        self.services = [*self.campaigns, *self.senders, *self.exports]
        self._cleanup = AsyncExitStack()
        self.links: dict[Link, Relay] = {}
        self.crashes: list[tuple[str, str]] = []
        self.published_jobs: deque[tuple[str, bytes]] = deque(maxlen=JOBS_KEPT_MAX)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._cleanup.aclose()

    def client(self, replica: int = 0) -> OutreachClient:
        """A new client of one replica of the campaign service (and of the export service); close it after use."""
        exports = self.local.export_addresses
        address = self.local.addresses[replica % len(self.local.addresses)]
        export_address = exports[replica % len(exports)] if exports else self.local.export_address
        return OutreachClient(address, self.local.api_key, export_address=export_address)

    def control(self, name: str) -> Control:
        """What reaches into the service process of this name."""
        return Control(self.data_dir / "chaos" / name)

    async def ended(self, name: str, pid: int) -> None:
        """Wait until a process that got its death is gone."""
        async with asyncio.timeout(RESTART_SECONDS_MAX):
            while self.local.supervisor.pid(name) == pid:  # noqa: ASYNC110 - another process's end
                await asyncio.sleep(_POLL_SECONDS)

    async def kill(
        self, name: str, number: signal.Signals = signal.SIGKILL, *, down_seconds: float = 0.0
    ) -> None:
        """End a process and wait until another one is healthy in its place. One that is down is only waited for."""
        supervisor = self.local.supervisor
        try:
            pid = supervisor.kill(name, number, down_seconds=down_seconds)
        except ProcessLookupError:
            pid = 0
        await self.restarted(name, pid)

    async def restarted(self, name: str, pid: int) -> None:
        """Wait until another process than `pid` is healthy under this name."""
        await self.local.supervisor.wait_restarted(name, pid, RESTART_SECONDS_MAX)

    async def _start(self) -> None:
        options = self.options
        if options.data_dir is None:
            self.data_dir = temporary_data_dir()
            self._cleanup.push_async_callback(_remove, self.data_dir)
        else:
            self.data_dir = options.data_dir.resolve()
        every = links_of(self.campaigns, self.senders, self.exports)
        for link in every if options.relayed is None else options.relayed:
            self.links[link] = await self._cleanup.enter_async_context(Relay())
        self.local = await self._cleanup.enter_async_context(LocalStack(self._stack_options()))
        self.nats: NatsConnection = await self._cleanup.enter_async_context(
            nats_connection(self.local.nats_url, name="chaos")
        )
        await self.nats.connected()
        await self.nats.client.subscribe(_JOBS, cb=self._remember_job)

    async def _remember_job(self, message: Msg) -> None:
        self.published_jobs.append((message.subject, message.data))

    def _stack_options(self) -> StackOptions:
        options = self.options
        return StackOptions(
            data_dir=self.data_dir,
            campaign_replicas=options.campaign_replicas,
            sender_replicas=options.sender_replicas,
            email_sender_replicas=options.email_sender_replicas,
            export_replicas=options.export_replicas,
            settings=options.settings,
            process_settings={
                name: {
                    CONTROL_VARIABLE: str(self.data_dir / "chaos" / name),
                    BREAK_VARIABLE: options.break_name,
                }
                for name in self.services
            },
            knobs=options.knobs,
            seed=options.seed,
            durable=options.durable,
            launcher="chaos.process",
            route=self._route,
            own_servers=True,
        )

    def _route(self, source: str, target: str, port: int) -> int:
        relay = self.links.get((source, target))
        if relay is None:
            return port
        relay.target_port = port
        return relay.port


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}-{number + 1}" for number in range(count)]


def links_of(
    campaigns: Sequence[str], senders: Sequence[str], exports: Sequence[str]
) -> list[Link]:
    """Every connection that is made between parts of a system with these processes."""
    links = [(campaign, server) for campaign in campaigns for server in ("postgres", "nats")]
    links += [(export, "postgres") for export in exports]
    links += [("client", name) for name in (*campaigns, *exports)]
    for sender in senders:
        links += [(sender, target) for target in (*campaigns, "nats", "sandbox")]
        links.append(("sandbox", sender))
    return links


async def _remove(directory: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
