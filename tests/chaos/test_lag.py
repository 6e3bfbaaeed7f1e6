"""How late the machine is, as a run measures it."""

import asyncio
import time

from aiohttp import web
from aiohttp.test_utils import RawTestServer

from chaos.history import FaultDone
from chaos.record.lag import Lag
from outreach.local.sandbox_client import SandboxClient

LATE_SECONDS = 0.5


async def test_a_late_answer_counts_unless_a_fault_held_it() -> None:
    calls = 0
    over = asyncio.Event()

    async def knobs(_: web.BaseRequest) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            return web.Response(status=500)
        if calls == 2:
            await asyncio.sleep(LATE_SECONDS)
        if calls == 4:
            over.set()
        return web.json_response({})

    server = RawTestServer(knobs)
    lag, begun_time = Lag(), time.time()
    async with server:
        url = str(server.make_url("/"))
        async with SandboxClient(url) as sandbox, lag.measured(sandbox):
            await over.wait()
    held = FaultDone(
        kind="hang-sandbox", target="sandbox", begun_time=begun_time, ended_time=time.time()
    )
    before = FaultDone(
        kind="hang-sandbox", target="sandbox", begun_time=0.0, ended_time=begun_time - 1
    )
    assert lag.seconds_max([]) >= LATE_SECONDS
    assert lag.seconds_max([before]) == lag.seconds_max([])
    assert lag.seconds_max([held]) == 0.0
