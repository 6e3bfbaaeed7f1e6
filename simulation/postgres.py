"""The same simulation on a real PostgreSQL: the product's own SQL, its locks and its constraints.

`now()` is replaced by one that reads the virtual clock, and while the server works virtual time stands still.
How transactions interleave is PostgreSQL's affair, so here a seed is a scenario, and not a history to the byte.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.postgres.migrate import migrate
from outreach.vocabulary import Channel, MessageStatus
from services.campaign.domain.lifecycle import Counts
from simulation.campaign_side import Stored
from simulation.clock import START_EPOCH_SECONDS, START_SECONDS
from simulation.model.tables import Commit, Message
from simulation.run import Result, simulate
from simulation.scenario import ORGANISATION_ID, CampaignPlan
from simulation.world import Process, World

_T = TypeVar("_T")

CONNECTIONS_MAX = 12
START_SECONDS_MAX = 120.0

_CLOCK = """
CREATE SCHEMA virtual_clock;
CREATE FUNCTION virtual_clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        to_timestamp(nullif(current_setting('virtual_clock.now', true), '')::float8), pg_catalog.now()
    )
$$;
"""
_SET_CLOCK = "SELECT set_config('virtual_clock.now', $1, false)"


def simulate_on_postgres(
    seeds: Sequence[int], *, keeps_history: bool = False, dsn: str | None = None
) -> Generator[Result, None, None]:
    """Run seeds one after another. `dsn`: a server whose user may create databases; None: one is started."""
    with _server(dsn) as server_dsn, _database(server_dsn) as database_dsn:
        for seed in seeds:
            yield simulate(
                seed,
                keeps_history=keeps_history,
                side_of=lambda world: PostgresSide(world, database_dsn),
                has_real_io=True,
            )


@contextmanager
def _server(dsn: str | None) -> Iterator[str]:
    if dsn is not None:
        yield dsn
        return
    server = EmbeddedPostgres(temporary_data_dir(), durable=False)
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await asyncio.to_thread(stop.wait)

    # Its supervisor needs a loop that runs in real time.
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        if not ready.wait(START_SECONDS_MAX):
            raise TimeoutError("PostgreSQL does not start")
        yield server.dsn
    finally:
        stop.set()
        thread.join()
        shutil.rmtree(server.data_dir, ignore_errors=True)


@contextmanager
def _database(server_dsn: str) -> Iterator[str]:
    """One of our own, with the virtual clock before PostgreSQL's when the tables are made."""
    name = "simulation"
    dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))

    async def make() -> None:
        await _execute(
            server_dsn,
            f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)',
            f'CREATE DATABASE "{name}"',
            f'ALTER DATABASE "{name}" SET search_path = public, virtual_clock, pg_catalog',
        )
        await _execute(dsn, _CLOCK)
        await migrate(dsn)

    asyncio.run(make())
    try:
        yield dsn
    finally:
        asyncio.run(_execute(server_dsn, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


class PostgresSide:
    """`CampaignSide` on the real thing."""

    name = "on PostgreSQL"

    def __init__(self, world: World, dsn: str) -> None:
        self.world = world
        self.draw = world.random("database")
        self._dsn = dsn
        self._pool: Any = None
        self.is_up = True
        self.commits_unanswered = 0.0

    def pool(self, process: Process) -> Any:
        return _Pool(self, process)

    def set_fault(
        self,
        *,
        is_up: bool = True,
        commits_unanswered: float = 0.0,
        slow: float = 0.0,  # noqa: ARG002 - inside a transaction no virtual time passes
    ) -> None:
        self.is_up = is_up
        self.commits_unanswered = commits_unanswered

    async def real(self, work: Awaitable[_T]) -> _T:
        """To its end, also when the process that asked is killed meanwhile: so does the server."""
        task = asyncio.ensure_future(work)
        with self.world.loop.real_io():
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                raise

    async def connections(self) -> Any:
        """The pool of all processes: a real one for each would take most of a seed's time."""
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=CONNECTIONS_MAX,
                max_inactive_connection_lifetime=0,
                server_settings={"timezone": "UTC", "jit": "off"},
            )
            await self.real(self._pool)
        return self._pool

    async def close(self) -> None:
        """Give the connections back."""
        if self._pool is not None:
            await self.real(self._pool.close())

    def clock(self) -> str:
        """`now()`, as the setting holds it."""
        return repr(START_EPOCH_SECONDS - START_SECONDS + self.world.now())

    async def create(self, plan: CampaignPlan, channel: Channel) -> None:
        numbers = range(1, plan.messages + 1)
        contacts: list[tuple[Any, ...]] = [
            (plan.campaign_id, n, plan.recipient(n), plan.recipient_hash(n, channel), [])
            for n in numbers
        ]
        pool = await self.connections()
        if plan.campaign_id.int % 2**16 == 1:  # the first of a seed
            await self.real(pool.execute("TRUNCATE campaign, organisation, ended_instance CASCADE"))
            for table in ("message", "message_attempt", "unknown_attempt", "change_log", "contact"):
                await self.real(pool.execute(f"TRUNCATE {table}"))
            organisation = "INSERT INTO organisation (id, name) VALUES ($1, 'Simulation')"
            await self.real(pool.execute(organisation, ORGANISATION_ID))
        await self.real(
            pool.execute(
                """
                INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status,
                    holds_channel, waiting, total, run, revision)
                VALUES ($1, $2, $3, 'A campaign', 1, 2, false, $4, $4, 0, 0)
                """,
                plan.campaign_id,
                ORGANISATION_ID,
                channel,
                plan.messages,
            )
        )
        await self.real(
            pool.execute(
                """
                INSERT INTO campaign_content (campaign_id, content_hash, content, columns)
                VALUES ($1, 'hash-1', '{}', '[]')
                """,
                plan.campaign_id,
            )
        )
        insert = "INSERT INTO contact VALUES ($1, $2, $3, $4, $5)"
        await self.real(pool.executemany(insert, contacts))
        messages = (
            "INSERT INTO message (campaign_id, number, status) SELECT $1, generate_series(1, $2), 2"
        )
        await self.real(pool.execute(messages, plan.campaign_id, plan.messages))

    async def stored(self, plan: CampaignPlan) -> Stored:
        pool = await self.connections()

        async def rows(query: str) -> Sequence[Mapping[str, Any]]:
            found: Sequence[Mapping[str, Any]] = await self.real(
                pool.fetch(query, plan.campaign_id)
            )
            return found

        (campaign,) = await rows("SELECT * FROM campaign WHERE id = $1")
        messages = await rows("SELECT * FROM message WHERE campaign_id = $1 ORDER BY number")
        attempts = await rows("SELECT * FROM message_attempt WHERE campaign_id = $1")
        log = await rows("SELECT * FROM change_log WHERE campaign_id = $1 ORDER BY revision")
        return Stored(
            campaign["status"],
            Counts(*(campaign[status.name.lower()] for status in MessageStatus)),
            campaign["end_time"] is not None,
            {row["number"]: _message(row) for row in messages},
            {(row["number"], row["attempt"]): _message(row) for row in attempts},
            [_commit(row) for row in log],
        )


def _message(row: Mapping[str, Any]) -> Message:
    return Message(
        number=row["number"],
        status=MessageStatus(row["status"]),
        failure_reason=row["failure_reason"],
        run=row["run"],
        attempt=row["attempt"],
        provider_message_id=row["provider_message_id"],
    )


def _commit(row: Mapping[str, Any]) -> Commit:
    return Commit(
        row["revision"],
        row["commit_time"].timestamp() - START_EPOCH_SECONDS + START_SECONDS,
        row["campaign_status"],
        row["counts"],
        row["numbers"],
        row["statuses"],
        row["failure_reasons"],
        row["attempts"],
    )


class _Connection:
    """A real connection, for one process. Inside a transaction no virtual time passes: another one may
    wait for its locks, and while it does the clock stands still.
    """

    def __init__(self, side: PostgresSide, process: Process, real: Any) -> None:
        self._side = side
        self._process = process
        self._real = real
        self._in_transaction = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self._set_clock()
        transaction = self._real.transaction()
        await self._side.real(transaction.start())
        self._in_transaction = True
        try:
            yield
            self._require()
        except BaseException:
            await self._side.real(transaction.rollback())
            raise
        finally:
            self._in_transaction = False
        lost = self._side.draw.random() < self._side.commits_unanswered
        if lost and self._side.draw.random() < 0.5:
            await self._side.real(transaction.rollback())
        else:
            await self._side.real(transaction.commit())
        if lost:
            raise ConnectionResetError("no answer to a commit")

    async def _set_clock(self) -> None:
        self._require()
        await self._side.real(self._real.execute(_SET_CLOCK, self._side.clock()))

    async def _ask(self, method: str, query: str, arguments: tuple[Any, ...]) -> Any:
        if not self._in_transaction:
            await self._set_clock()
        self._require()
        result = await self._side.real(getattr(self._real, method)(query, *arguments))
        self._require()
        return result

    async def fetch(self, query: str, *arguments: Any) -> Any:
        return await self._ask("fetch", query, arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        return await self._ask("fetchrow", query, arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._ask("fetchval", query, arguments)

    async def execute(self, query: str, *arguments: Any) -> Any:
        return await self._ask("execute", query, arguments)

    def _require(self) -> None:
        self._process.require_alive()
        if not self._side.is_up:
            raise ConnectionResetError("the database is down")


class _Pool:
    """What the product uses of `asyncpg.Pool`, for one process."""

    def __init__(self, side: PostgresSide, process: Process) -> None:
        self._side = side
        self._process = process

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[_Connection]:
        # All the time that the statements take; see `_Connection`.
        await asyncio.sleep(self._side.draw.uniform(0.0002, 0.01))
        pool = await self._side.connections()
        real = await self._side.real(pool.acquire())
        try:
            yield _Connection(self._side, self._process, real)
        finally:
            await self._side.real(pool.release(real))

    async def fetch(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.execute(query, *arguments)
