"""The sandbox as a process: start, kill, restart, end."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from twilio.rest import Client

from services.sandbox.settings import SandboxSettings
from tests.sandbox_parts import RewritingHttpClient, receiving
from tests.waiting import eventually

SETTINGS = SandboxSettings()


class _Process:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def sandbox_process(directory: Path, **environment: str) -> AsyncIterator[_Process]:
    ready = directory / "ready.json"
    ready.unlink(missing_ok=True)
    settings = {
        "HTTP_PORT": "0",
        "READY_FILE": str(ready),
        "DATA_DIR": str(directory / "data"),
        **environment,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.sandbox",
        env={**os.environ, **{f"OUTREACH_SANDBOX_{name}": text for name, text in settings.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await eventually(lambda: ready.exists() or process.returncode is not None, 240)
        yield _Process(process, json.loads(ready.read_text())["port"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ledger(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/sandbox/ledger") as answer:
        return dict(await answer.json())


async def test_a_kill_loses_nothing_and_callbacks_go_on(tmp_path: Path) -> None:
    slow = json.dumps({"callback_delay_ms_min": 1_000, "callback_delay_ms_max": 1_000})
    async with receiving() as receiver, aiohttp.ClientSession() as session:
        answered: dict[str, str] = {}
        # So few at once that most are still to come at the kill, however late this loop sees the answers.
        at_once = asyncio.Semaphore(50)

        async def send(at: _Process, number: int) -> None:
            async with at_once:
                await create(at.url, number)
            if len(answered) >= 100 and at.process.returncode is None:
                at.process.kill()

        async def create(url: str, number: int) -> None:
            transport = RewritingHttpClient(session, url)
            twilio = Client(SETTINGS.account_sid, SETTINGS.auth_token, http_client=transport)
            try:
                message = await twilio.messages.create_async(
                    to=f"+1512555{number:04d}",
                    body=f"Hello {number}",
                    messaging_service_sid=SETTINGS.messaging_service_sid,
                    status_callback=f"{receiver.url}/status/a{number}#rc=5&rp=all",
                )
            except aiohttp.ClientError:
                return
            answered[str(message.sid)] = f"a{number}"

        async with sandbox_process(tmp_path, KNOBS=slow) as first:
            opt_out = {"from": "+15125559999", "body": "STOP"}
            async with session.post(f"{first.url}/sandbox/inbound", json=opt_out) as answer:
                assert answer.status == 200
            await asyncio.gather(*(send(first, number) for number in range(400)))
            await first.process.wait()
        assert 100 <= len(answered) < 400

        with (tmp_path / "data" / "messages.jsonl").open("ab") as journal:
            journal.write(b'["accepted",17')
        async with sandbox_process(tmp_path, KNOBS=slow) as second:
            ledger = await _ledger(session, second.url)
            assert len(answered) <= ledger["accepted"] <= 400
            assert ledger["accepted"] == ledger["distinct_attempts"]
            assert ledger["opted_out_recipients"] == 1
            transport = RewritingHttpClient(session, second.url)
            twilio = Client(SETTINGS.account_sid, SETTINGS.auth_token, http_client=transport)
            listed = {m.sid: m.body for m in await twilio.messages.list_async(page_size=1_000)}
            assert set(answered) <= set(listed)
            for sid, attempt in answered.items():
                assert listed[sid] == f"Hello {attempt[1:]}"

            def told() -> bool:
                return set(listed) <= {
                    one.form["MessageSid"]
                    for one in receiver.received
                    if one.form["MessageStatus"] == "delivered"
                }

            await eventually(told, 240)


async def test_set_knobs_outlive_a_restart_until_other_ones_are_given(tmp_path: Path) -> None:
    async def get(session: aiohttp.ClientSession, url: str) -> float:
        async with session.get(f"{url}/sandbox/knobs") as answer:
            return float((await answer.json())["latency_ms"])

    async with aiohttp.ClientSession() as session:
        async with sandbox_process(tmp_path, KNOBS='{"latency_ms": 1}') as sandbox:
            assert await get(session, sandbox.url) == 1
            async with session.patch(
                f"{sandbox.url}/sandbox/knobs", json={"latency_ms": 2}
            ) as answer:
                assert answer.status == 200
            sandbox.process.kill()
        async with sandbox_process(tmp_path, KNOBS='{"latency_ms": 1}') as sandbox:
            assert await get(session, sandbox.url) == 2
        async with sandbox_process(tmp_path, KNOBS='{"latency_ms": 3}') as sandbox:
            assert await get(session, sandbox.url) == 3


async def test_the_first_log_line_says_where_and_sigterm_ends_it(tmp_path: Path) -> None:
    async with sandbox_process(tmp_path) as sandbox:
        assert sandbox.process.stdout is not None
        line = json.loads(await sandbox.process.stdout.readline())
        assert (line["event"], line["url"]) == ("listening", sandbox.url)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{sandbox.url}/healthz") as answer:
                assert answer.status == 200
            sandbox.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(sandbox.process.wait(), 60) == 0


async def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.sandbox",
        env={
            **os.environ,
            "OUTREACH_SANDBOX_HTTP_PORT": "99999",
            "OUTREACH_SANDBOX_KNOBS": '{"no_receipt_share": 2}',
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"OUTREACH_SANDBOX_HTTP_PORT: " in errors
    assert b"OUTREACH_SANDBOX_KNOBS_NO_RECEIPT_SHARE: " in errors
