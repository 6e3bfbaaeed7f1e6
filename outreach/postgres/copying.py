"""COPY on a connection that may be dead without anybody's knowledge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy


@contextmanager
def copying(connection: Connection[Any] | PoolConnectionProxy[Any]) -> Iterator[None]:
    """Around a COPY: an error of it is the one that is seen.

    When PostgreSQL's last words ("terminating connection due to administrator command") have reached a connection
    that was idle, asyncpg 0.32 refuses the COPY and keeps it as an operation that never ends. What puts the
    connection back, a pool or a transaction, then fails with "another operation is in progress", and hides the
    outage behind what looks like a fault of ours. So such a connection is given up here.
    """
    try:
        yield
    except asyncpg.InternalClientError:
        connection.terminate()
        raise
