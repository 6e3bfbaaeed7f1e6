"""Which errors mean that the database is away or overloaded, and not that we asked wrongly."""

import asyncpg

#: All that a call of asyncpg raises, except for wrong arguments: what a loop that outlives the database waits out.
STORE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

_OUTAGES: tuple[type[BaseException], ...] = (
    OSError,  # also ConnectionError and TimeoutError
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.exceptions.InsufficientResourcesError,  # connections, memory, disk
    asyncpg.exceptions.OperatorInterventionError,  # shutdown, statement time-out
    asyncpg.exceptions.TransactionRollbackError,  # deadlock, serialisation
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a standby, while it takes over
)


def is_outage(error: BaseException) -> bool:
    """True: the same statement may succeed later, and may have been committed already."""
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg has no class of its own for these: "connection is closed", "pool is closing"; and of an acquired
        # connection that was lost between two statements, "connection has been released back to the pool".
        return any(said in str(error) for said in ("clos", "released back to the pool"))
    if isinstance(error, asyncpg.InternalClientError):
        # Seen after a kill of PostgreSQL: its last words reached a connection that was idle, and the next statement
        # on it finds it in no state to work.
        return "cannot switch to" in str(error)
    return isinstance(error, _OUTAGES)
