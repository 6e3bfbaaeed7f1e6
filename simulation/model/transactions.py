"""Connections and transactions on the tables in memory, as the product's code uses asyncpg's.

READ COMMITTED: a statement sees what is committed when it begins, and its own transaction's changes. The
campaign's row lock is the only lock that the product relies on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from uuid import UUID

from outreach.vocabulary import MessageStatus
from simulation.model.tables import Campaign, Commit, Tables
from simulation.world import Process, World

Row = Mapping[str, Any]
Statement = Callable[..., Sequence[Row]]


class Database:
    """The server: its tables, locks and faults."""

    def __init__(self, world: World, statements: Mapping[str, Statement]) -> None:
        self.world = world
        self.draw: Random = world.random("database")
        self.statements = statements
        self.tables = Tables()
        self.locks: dict[UUID, asyncio.Lock] = {}
        #: The entry of the channel in its unique index: who takes it waits for others that do.
        self.channel_lock = asyncio.Lock()
        self.is_up = True
        #: How likely the answer to a commit is lost: half of these are committed.
        self.commits_unanswered = 0.0
        #: How likely a statement takes seconds while there are faults.
        self.slow = self.draw.choice((0.0, 0.0, 0.01, 0.04))

    async def round_trip(self) -> None:
        """The way to the server, and back."""
        seconds = self.draw.uniform(0.0001, 0.002)
        if self.world.is_faulty and self.draw.random() < self.slow:
            seconds += self.draw.uniform(0, 2)
        await asyncio.sleep(seconds)

    def require_up(self) -> None:
        """Raise as asyncpg does without a server."""
        if not self.is_up:
            raise ConnectionResetError("the database is down")


class Transaction:
    """What is changed and not committed. `now`: as PostgreSQL's, of the transaction's begin."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = database.world.now()
        self._changed: dict[UUID, Campaign] = {}
        self._held: list[asyncio.Lock] = []
        self._at_commit: list[Callable[[], None]] = []

    @property
    def tables(self) -> Tables:
        """What others have committed."""
        return self.database.tables

    async def lock(self, campaign_id: UUID) -> None:
        """Wait for the campaign's row, and hold it until the end."""
        if campaign_id in self._changed or campaign_id not in self.tables.campaigns:
            return
        lock = self.database.locks.setdefault(campaign_id, asyncio.Lock())
        await lock.acquire()
        self._held.append(lock)
        self._changed[campaign_id] = self.tables.campaigns[campaign_id].copy()

    async def lock_channel(self) -> None:
        """Wait for others that take the channel, and hold it until the end."""
        await self.database.channel_lock.acquire()
        self._held.append(self.database.channel_lock)

    def campaign(self, campaign_id: UUID) -> Campaign | None:
        """As this transaction sees it; to be changed only where it is locked."""
        return self._changed.get(campaign_id) or self.tables.campaigns.get(campaign_id)

    def at_commit(self, change: Callable[[], None]) -> None:
        """For rows without a lock of their own."""
        self._at_commit.append(change)

    def commit(self) -> None:
        """All of it at once."""
        if self.database.world.history.is_kept:
            self._tell()
        self._check_claims()
        self.tables.campaigns.update(self._changed)
        self._check_channel()
        for change in self._at_commit:
            change()
        self.release()

    def _check_channel(self) -> None:
        running = [c.id for c in self.tables.campaigns.values() if c.holds_channel]
        if len(running) > 1:
            names = " and ".join(str(campaign_id.int % 1000) for campaign_id in running)
            self.database.world.fail(f"one_campaign_runs_at_a_time: {names} run together")

    def _check_claims(self) -> None:
        for campaign, commit in self._commits():
            for number, status in zip(commit.numbers, commit.statuses, strict=True):
                if status == MessageStatus.SENDING and campaign.arrived(number):
                    name = f"{campaign.id.int % 1000}/{number}"
                    self.database.world.fail(f"what_arrived_is_not_sent_again: {name} is claimed")

    def _tell(self) -> None:
        for campaign, commit in self._commits():
            changes = zip(commit.numbers, commit.statuses, commit.attempts, strict=True)
            told = ", ".join(f"{n} {MessageStatus(s).name} {a}" for n, s, a in changes)
            text = f"{campaign.id.int % 1000} revision {commit.revision}: {told}"
            self.database.world.history.tell("commit", text)

    def _commits(self) -> Iterator[tuple[Campaign, Commit]]:
        """What this transaction adds to the logs."""
        for campaign_id, campaign in self._changed.items():
            before = self.tables.campaigns[campaign_id].revision
            for commit in campaign.log[before:]:
                yield campaign, commit

    def release(self) -> None:
        """Give the locks back."""
        self._changed = {}
        self._at_commit = []
        while self._held:
            self._held.pop().release()


class Connection:
    """What the product uses of an asyncpg connection, for one process."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process
        self._transaction: Transaction | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Committed at its end, rolled back by an exception; either may go unanswered."""
        self._require()
        transaction = self._transaction = Transaction(self._database)
        try:
            yield
            await self._commit(transaction)
        finally:
            self._transaction = None
            transaction.release()

    async def _commit(self, transaction: Transaction) -> None:
        await self._database.round_trip()
        self._require()
        lost = self._database.draw.random() < self._database.commits_unanswered
        if not lost or self._database.draw.random() < 0.5:
            transaction.commit()
            self._database.world.reached("committed", self._process)
        if lost:
            raise ConnectionResetError("no answer to a commit")
        await self._database.round_trip()
        self._require()

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Row]:
        """A statement's rows."""
        self._require()
        await self._database.round_trip()
        self._require()
        statement = self._database.statements[query]
        if self._transaction is not None:
            return await self._run(self._transaction, statement, arguments)
        transaction = Transaction(self._database)
        try:
            rows = await self._run(transaction, statement, arguments)
            transaction.commit()
        finally:
            transaction.release()
        return rows

    async def _run(
        self, transaction: Transaction, statement: Statement, arguments: tuple[Any, ...]
    ) -> Sequence[Row]:
        if getattr(statement, "locks_campaign", False):
            await transaction.lock(arguments[0])
            self._require()
        if getattr(statement, "takes_channel", False):
            await transaction.lock_channel()
            self._require()
        return statement(transaction, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Row | None:
        """The first row."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        row = await self.fetchrow(query, *arguments)
        return None if row is None else next(iter(row.values()))

    async def execute(self, query: str, *arguments: Any) -> str:
        """For what it does."""
        await self.fetch(query, *arguments)
        return "DONE"

    def _require(self) -> None:
        self._process.require_alive()
        self._database.require_up()


class Pool:
    """What the product uses of `asyncpg.Pool`, for one process."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection; there are enough."""
        yield Connection(self._database, self._process)

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Row]:
        """See `Connection`."""
        return await Connection(self._database, self._process).fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Row | None:
        """See `Connection`."""
        return await Connection(self._database, self._process).fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """See `Connection`."""
        return await Connection(self._database, self._process).fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """See `Connection`."""
        return await Connection(self._database, self._process).execute(query, *arguments)
