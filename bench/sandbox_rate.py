"""What the sandbox takes a second: creates with callbacks off and on, emails with events off and on.

    python bench/sandbox_rate.py [--messages 60000] [--connections 64] [--emails 300000]

Client and receiver run in processes of their own; the CPU time of the sandbox itself is what counts
on a machine with few cores.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import orjson
import psutil
import uvloop
from aiohttp import web

from services.sandbox.settings import SandboxSettings

SETTINGS = SandboxSettings()
EMAILS_A_REQUEST = 1_000
EMAIL_CONNECTIONS = 4
AUTHORIZATION = (
    "Basic " + b64encode(f"{SETTINGS.account_sid}:{SETTINGS.auth_token}".encode()).decode()
)


async def receive(port_file: str) -> None:
    """A receiver that does nothing but answer."""

    async def answer(request: web.BaseRequest) -> web.Response:
        while await request.content.readany():
            pass
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    Path(port_file).write_text(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


def wait_for(*paths: Path) -> None:
    while not all(path.exists() and path.read_text() for path in paths):
        time.sleep(0.02)


def start(*arguments: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL
    )


async def create_all(url: str, messages: int, connections: int, callback: str) -> float:
    path = f"{url}/2010-04-01/Accounts/{SETTINGS.account_sid}/Messages.json"
    headers = {
        "Authorization": AUTHORIZATION,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    numbers = iter(range(messages))
    body = quote_plus("Hello Ada, your parcel is ready. Reply STOP to opt out. " * 2)

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            to = 15_100_000_000 + number
            form = f"To=%2B{to}&MessagingServiceSid={SETTINGS.messaging_service_sid}&Body={body}"
            if callback:
                form += (
                    f"&StatusCallback={quote_plus(f'{callback}/attempt-{number:012d}#rc=5&rp=all')}"
                )
            async with session.post(path, data=form.encode(), headers=headers) as response:
                await response.read()
                assert response.status == 201, response.status

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(connections)))
        return time.perf_counter() - began


async def measure(
    name: str, messages: int, connections: int, *, callbacks: bool, durable: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ready, receiver_port = Path(directory, "ready"), Path(directory, "receiver")
        environment = {**os.environ, "OUTREACH_SANDBOX_HTTP_PORT": "0"}
        environment["OUTREACH_SANDBOX_READY_FILE"] = str(ready)
        if durable:
            environment["OUTREACH_SANDBOX_DATA_DIR"] = str(Path(directory, "data"))
        sandbox = start("-m", "services.sandbox", environment=environment)
        receiver = start(__file__, "--receive", str(receiver_port), environment=environment)
        try:
            await asyncio.to_thread(wait_for, ready, receiver_port)
            url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
            callback = f"http://127.0.0.1:{receiver_port.read_text()}/twilio/status"
            process = psutil.Process(sandbox.pid)
            memory, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
            began = time.perf_counter()
            seconds = await create_all(url, messages, connections, callback if callbacks else "")
            pending, totals = 1, {}
            async with aiohttp.ClientSession() as session:
                while pending:
                    await asyncio.sleep(0.05)
                    async with session.get(f"{url}/sandbox/ledger") as response:
                        totals = await response.json()
                    pending = totals["messages_with_pending_callbacks"]
            all_seconds = time.perf_counter() - began
            used = sum(process.cpu_times()[:2]) - cpu
            grown = process.memory_info().rss - memory
            assert totals["accepted"] == messages
            made = totals["callbacks"].get("made", 0) / all_seconds
            cpu_us, grown_bytes = used / messages * 1e6, grown / messages
            print(
                f"{name:24} {messages / seconds:7,.0f} creates/s {made:7,.0f} callbacks/s"
                f" {cpu_us:5.0f} us CPU/message {grown_bytes:5.0f} B/message"
            )
        finally:
            for started in (sandbox, receiver):
                started.terminate()
                started.wait()


def email_bodies(emails: int) -> Iterator[bytes]:
    """Requests of 1,000 recipients with three substitutions, an attempt and unsubscribe headers."""
    html = "<p>Hello -name-, <a href='-u-'>unsubscribe</a></p>" + "<p>An offer.</p>" * 500
    shared = {
        "from": {"email": SETTINGS.sendgrid_verified_senders[0], "name": "Outreach"},
        "subject": "Hello -name-",
        "content": [
            {"type": "text/plain", "value": "Hello -name-"},
            {"type": "text/html", "value": html},
        ],
    }
    for first in range(0, emails, EMAILS_A_REQUEST):
        personalizations = []
        for number in range(first, min(first + EMAILS_A_REQUEST, emails)):
            link = f"https://outreach.example/u/{number:032x}"
            personalizations.append(
                {
                    "to": [{"email": f"recipient{number}@example.org"}],
                    "substitutions": {"-name-": f"Ada {number}", "-u-": link, "-c-": "Berlin"},
                    "custom_args": {"attempt_id": f"{number:032x}", "campaign": "c" * 32},
                    "headers": {
                        "List-Unsubscribe": f"<{link}>",
                        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                    },
                }
            )
        yield orjson.dumps({**shared, "personalizations": personalizations})


async def send_all(url: str, bodies: list[bytes], connections: int) -> float:
    waiting = iter(bodies)
    headers = {
        "Authorization": f"Bearer {SETTINGS.sendgrid_api_key}",
        "Content-Type": "application/json",
    }

    async def work(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with session.post(f"{url}/v3/mail/send", data=body, headers=headers) as response:
                await response.read()
                assert response.status == 202, response.status

    async with aiohttp.ClientSession() as session:
        began = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(connections)))
        return time.perf_counter() - began


async def measure_emails(name: str, emails: int, *, events: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ready, receiver_port = Path(directory, "ready"), Path(directory, "receiver")
        knobs = {"email": {"events_enabled": events, "open_share": 0.2}}
        environment = {
            **os.environ,
            "OUTREACH_SANDBOX_HTTP_PORT": "0",
            "OUTREACH_SANDBOX_READY_FILE": str(ready),
            "OUTREACH_SANDBOX_DATA_DIR": str(Path(directory, "data")),
            "OUTREACH_SANDBOX_KNOBS": json.dumps(knobs),
        }
        receiver = start(__file__, "--receive", str(receiver_port), environment=environment)
        await asyncio.to_thread(wait_for, receiver_port)
        environment["OUTREACH_SANDBOX_SENDGRID_EVENT_URL"] = (
            f"http://127.0.0.1:{receiver_port.read_text()}/sendgrid/events"
        )
        sandbox = start("-m", "services.sandbox", environment=environment)
        try:
            bodies = list(email_bodies(emails))
            await asyncio.to_thread(wait_for, ready)
            url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
            process = psutil.Process(sandbox.pid)
            memory, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
            began = time.perf_counter()
            seconds = await send_all(url, bodies, EMAIL_CONNECTIONS)
            pending, totals = 1, {}
            async with aiohttp.ClientSession() as session:
                while pending:
                    await asyncio.sleep(0.05)
                    async with session.get(f"{url}/sandbox/sendgrid/ledger") as response:
                        totals = await response.json()
                    pending = totals["emails_with_pending_events"]
            all_seconds = time.perf_counter() - began
            used = sum(process.cpu_times()[:2]) - cpu
            grown = process.memory_info().rss - memory
            assert totals["accepted"] == emails
            posted = totals["events"].get("events_posted", 0)
            print(
                f"{name:24} {emails / seconds:7,.0f} emails/s {posted / all_seconds:9,.0f} events/s"
                f" {used / emails * 1e6:7.1f} us CPU/email {grown / emails:7,.0f} B/email"
            )
        finally:
            for started in (sandbox, receiver):
                started.terminate()
                started.wait()


async def main(messages: int, connections: int, emails: int) -> None:
    await measure("callbacks off", messages, connections, callbacks=False, durable=False)
    await measure("callbacks off, data dir", messages, connections, callbacks=False, durable=True)
    await measure("callbacks on, data dir", messages, connections, callbacks=True, durable=True)
    await measure_emails("emails, events off", emails, events=False)
    await measure_emails("emails, events on", emails, events=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--emails", type=int, default=300_000)
    parser.add_argument("--receive", metavar="PORT_FILE")
    arguments = parser.parse_args()
    uvloop.run(
        receive(arguments.receive)
        if arguments.receive
        else main(arguments.messages, arguments.connections, arguments.emails)
    )
