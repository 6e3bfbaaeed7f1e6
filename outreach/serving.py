"""What every gRPC service does with its signals, its database and its health."""

import asyncio
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from outreach.cancellation import raise_if_cancelled
from outreach.postgres.outage import STORE_ERRORS, is_outage
from outreach.rpc.server import RpcServer

if TYPE_CHECKING:
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_log = structlog.get_logger(__name__)

#: How often health follows whether the database answers.
HEALTH_INTERVAL_SECONDS = 2.0


def stop_on_signals(stopping: asyncio.Event) -> None:
    """SIGTERM and SIGINT set the event."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


async def closed(pool: "Pool") -> None:
    """Give connections back, but not for longer than a moment: PostgreSQL may be gone."""
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def follow_health(pool: "Pool", listening: Sequence[RpcServer]) -> None:
    """Not serving while the database does not answer; until cancelled."""
    serving = True
    while True:
        raise_if_cancelled()  # asyncpg's own failure to end a statement may have taken its place
        await asyncio.sleep(HEALTH_INTERVAL_SECONDS)
        answers = await _answers(pool)
        if answers != serving:
            serving = answers
            _log.warning("health changed", serving=serving)
            for server in listening:
                await server.set_serving(serving=serving)


async def _answers(pool: "Pool") -> bool:
    try:
        async with asyncio.timeout(HEALTH_INTERVAL_SECONDS):
            await pool.fetchval("SELECT 1")
    except STORE_ERRORS as error:
        if not is_outage(error):
            _log.exception("health question failed")  # a fault of ours; it ends no service
        return False
    return True
