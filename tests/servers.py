"""The PostgreSQL and the NATS of a test session, in a thread with an event loop of its own.

Tests come and go with their loops; the servers' supervisor needs one that stays.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future

from outreach.local.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    EmbeddedServer,
    temporary_data_dir,
)

_START_SECONDS_MAX = 240.0


class ServerThread:
    """One embedded server; `start` blocks until it answers, `stop` until it is gone."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._ready: Future[Callable[[], object]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.result(timeout=_START_SECONDS_MAX)

    def stop(self) -> None:
        self._ready.result()()
        self._thread.join()
        shutil.rmtree(self._server.data_dir)

    async def _serve(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            async with self._server:
                self._ready.set_result(lambda: loop.call_soon_threadsafe(stop.set))
                await stop.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)


def new_postgres() -> EmbeddedPostgres:
    """A PostgreSQL without fsync: what a test writes need not outlive a power failure."""
    return EmbeddedPostgres(temporary_data_dir(), durable=False)


def new_nats() -> EmbeddedNats:
    """A NATS with an empty store."""
    return EmbeddedNats(temporary_data_dir())
