"""Which errors of asyncpg are waited out."""

import asyncpg
import pytest

from outreach.postgres.outage import STORE_ERRORS, is_outage

# Seen on a connection that was idle while PostgreSQL was killed; it ended the campaign service.
KILLED_WHILE_IDLE = asyncpg.InternalClientError(
    "cannot switch to state 12; another operation (2) is in progress"
)


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (KILLED_WHILE_IDLE, True),
        (asyncpg.InternalClientError("got result for unknown protocol state 3"), False),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InterfaceError("another operation is in progress"), False),
        (
            asyncpg.InterfaceError("cannot call X: connection has been released back to the pool"),
            True,
        ),
        (asyncpg.ConnectionDoesNotExistError("gone"), True),
        (asyncpg.CrashShutdownError("terminating connection"), True),
        (asyncpg.UniqueViolationError("twice"), False),
        (ConnectionResetError(), True),
    ],
)
def test_an_outage_is_known_and_survived(error: Exception, outage: bool) -> None:
    assert is_outage(error) is outage
    assert isinstance(error, STORE_ERRORS)
