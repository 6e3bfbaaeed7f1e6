"""What a stack uses: memory, descriptors, threads, tasks and connections of each process, what
JetStream stores, and how large and how bloated the tables are.

Sources are `campaign-1`…, as the supervisor names them, `campaign-1 worker` for the processes that
one has started (the worker of an import), `jetstream`, `tables` for all of them, and `table NAME`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import aiohttp
import asyncpg
import psutil

from chaos.history import Sampled
from chaos.task_count import read_task_count, task_count_path
from outreach.local.stack import LocalStack

#: A server that a fault holds is left out of a sample, and holds up nothing.
ANSWER_SECONDS_MAX = 2.0

_TABLES = """
SELECT c.relname AS name, pg_total_relation_size(c.oid) AS bytes,
       coalesce(s.n_dead_tup, 0) AS dead
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
ORDER BY c.relname
"""
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


@dataclass(frozen=True)
class _Tree:
    """A process of the stack, and those below it."""

    process: psutil.Process
    children: list[psutil.Process]


class Sampler:
    """Takes samples of a running stack; what is down or does not answer is not in them.

    The memory of PostgreSQL, one process a session, is that which its processes have for
    themselves: the buffers that they share would count once for each. Of all others it is the
    resident set.
    """

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack

    async def sample(self) -> list[Sampled]:
        """One sample of each source, all of this moment."""
        now = time.time()
        processes, (jetstream, database) = await asyncio.gather(
            asyncio.to_thread(self._processes, now),
            asyncio.gather(self._jetstream(now), self._database(now)),
        )
        return _merged([*processes, *jetstream, *database])

    def _processes(self, now: float) -> list[Sampled]:
        found = []
        for name in self._stack.process_names:
            pid = self._stack.supervisor.pid(name)
            if pid is None:
                continue
            try:
                process = psutil.Process(pid)
                tree = _Tree(process, process.children(recursive=True))
                found += self._process(name, tree, now)
            except psutil.NoSuchProcess:
                continue  # it ended while it was looked at
        return found

    def _process(self, name: str, tree: _Tree, now: float) -> list[Sampled]:
        if name == "postgres":
            everyone = [tree.process, *tree.children]
            private = sum(_private_bytes(process) for process in everyone)
            descriptors = sum(_descriptors(process) for process in everyone)
            return [Sampled(source=name, time=now, rss_bytes=private, file_descriptors=descriptors)]
        process = tree.process
        with process.oneshot():
            own = Sampled(
                source=name,
                time=now,
                rss_bytes=process.memory_info().rss,
                file_descriptors=process.num_fds(),
                threads=process.num_threads(),
                tasks=read_task_count(task_count_path(self._stack.data_dir, name)),
                connections=len(process.net_connections(kind="tcp")),
            )
        if not tree.children:
            return [own]
        below = sum(_resident_bytes(child) for child in tree.children)
        return [own, Sampled(source=f"{name} worker", time=now, rss_bytes=below)]

    async def _jetstream(self, now: float) -> list[Sampled]:
        url = f"http://127.0.0.1:{self._stack.nats.monitoring_port}"
        limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        try:
            async with (
                aiohttp.ClientSession(url, timeout=limit) as session,
                session.get("/jsz") as answer,
            ):
                stored = await answer.json()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return []
        return [
            Sampled(
                source="jetstream",
                time=now,
                jetstream_bytes=stored["bytes"],
                jetstream_messages=stored["messages"],
            )
        ]

    async def _database(self, now: float) -> list[Sampled]:
        try:
            connection = await asyncpg.connect(self._stack.postgres.dsn, timeout=ANSWER_SECONDS_MAX)
            try:
                sessions = await connection.fetchval(_SESSIONS, timeout=ANSWER_SECONDS_MAX)
                tables = await connection.fetch(_TABLES, timeout=ANSWER_SECONDS_MAX)
            finally:
                connection.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return []
        of_each = [
            Sampled(
                source=f"table {row['name']}",
                time=now,
                dead_tuples=row["dead"],
                table_bytes=row["bytes"],
            )
            for row in tables
        ]
        server = Sampled(source="postgres", time=now, connections=sessions - 1)  # without ours
        of_all = Sampled(
            source="tables",
            time=now,
            dead_tuples=sum(row["dead"] for row in tables),
            table_bytes=sum(row["bytes"] for row in tables),
        )
        return [server, of_all, *of_each]


def _merged(samples: Iterable[Sampled]) -> list[Sampled]:
    """One a source: what the process told of itself and what its server told of it."""
    found: dict[str, Sampled] = {}
    for sample in samples:
        known = found.get(sample.source)
        if known is None:
            found[sample.source] = sample
            continue
        told = {name: getattr(sample, name) for name in Sampled.__slots__}
        changes = {name: value for name, value in told.items() if value is not None}
        found[sample.source] = replace(known, **changes)
    return list(found.values())


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _private_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _descriptors(process: psutil.Process) -> int:
    try:
        return int(process.num_fds())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
