"""`outreach up` and `LocalStack`: all processes, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from outreach.local.embedded import temporary_data_dir
from outreach.local.stack import LocalStack, StackOptions
from outreach.local.supervisor import StartFailed
from outreach.v1.campaign_pb2 import SmsContent
from tests.kills import RESTART_SECONDS_MAX
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

NAMES = ["postgres", "nats", "sandbox", "campaign-1", "sender-sms-1", "sender-email-1", "export-1"]


@pytest.fixture(autouse=True)
def _embedded_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTREACH_POSTGRES_DSN", raising=False)
    monkeypatch.delenv("OUTREACH_NATS_URL", raising=False)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # also when it ends as it is looked at
        return False


async def start_up(*arguments: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    """`outreach up --json`, and its line once everything is healthy."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outreach.cli", "up", "--json", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), timeout=300)
    assert line, (await process.communicate())[1].decode()
    return process, json.loads(line)


async def test_a_stack_works_and_leaves_nothing() -> None:
    async with LocalStack(StackOptions(durable=False)) as stack:
        assert stack.process_names == NAMES
        pids = [stack.supervisor.pid(name) for name in NAMES]
        data_dir = stack.data_dir
        mode = stat.S_IMODE((data_dir / "secrets.json").stat().st_mode)
        assert mode == 0o600
        async with stack.client() as client:
            created = await client.create_campaign(name="x", sms=SmsContent(body="Hi"))
            listed = await client.list_campaigns()
        assert [campaign.id for campaign in listed.campaigns] == [created.id]
    assert not data_dir.exists()
    assert alive([pid for pid in pids if pid is not None]) == []


async def test_what_is_killed_comes_back_on_its_port() -> None:
    # Durable: without it a killed PostgreSQL may lose the last commits.
    async with LocalStack() as stack, stack.client() as client:
        created = await client.create_campaign(name="x", sms=SmsContent(body="Hi"))
        for name in NAMES:
            pid = stack.supervisor.kill(name)
            await stack.supervisor.wait_restarted(name, pid, RESTART_SECONDS_MAX)
        # The same client, on the same address.
        assert (await client.get_campaign(created.id)).id == created.id
        async with stack.sandbox_client() as sandbox:
            assert (await sandbox.ledger())["accepted"] == 0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    made = temporary_data_dir()
    yield made
    shutil.rmtree(made)


async def test_a_data_directory_keeps_data_key_and_ports(data_dir: Path) -> None:
    options = StackOptions(data_dir=data_dir, durable=False)
    async with LocalStack(options) as first, first.client() as client:
        created = await client.create_campaign(name="kept", sms=SmsContent(body="Hi"))
        described = first.describe()
    async with LocalStack(options) as second, second.client() as client:
        assert (await client.get_campaign(created.id)).name == "kept"
        again = second.describe()
    same = ("addresses", "api_key", "sandbox_url", "webhook_urls", "email_urls", "organisation_id")
    assert {key: again[key] for key in same} == {key: described[key] for key in same}


async def test_replicas_have_addresses_of_their_own() -> None:
    options = StackOptions(
        campaign_replicas=2, sender_replicas=2, email_sender_replicas=2, durable=False
    )
    async with LocalStack(options) as stack:
        assert len(set(stack.addresses)) == 2
        assert len({*stack.webhook_urls, *stack.email_urls}) == 4
        assert stack.supervisor.pid("sender-sms-2") is not None


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"campaign-1": taken.getsockname()[1]}
        with pytest.raises(StartFailed) as caught:
            async with LocalStack(StackOptions(ports=ports, durable=False)):
                raise AssertionError("it started on a port that is taken")
    assert caught.value.name == "campaign-1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_up_stops_everything_on_a_signal(number: signal.Signals) -> None:
    process, described = await start_up()
    pids = list(described["processes"].values())
    assert alive(pids) == pids
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert alive(pids) == []
    assert not Path(described["data_dir"]).exists()


async def test_up_that_is_killed_leaves_no_process() -> None:
    process, described = await start_up()
    pids = list(described["processes"].values())
    process.kill()
    await process.communicate()
    await eventually(lambda: not alive(pids), timeout_seconds=180, what="all have ended")
    shutil.rmtree(described["data_dir"])  # nobody was left to do it


async def test_up_says_what_cannot_start() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outreach.cli", "up", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OUTREACH_ASSUMED_DELIVERED_AFTER_SECONDS": "soon"},
    )
    out, err = await process.communicate()
    assert process.returncode == 7
    assert b"campaign-1" in err
    assert json.loads(out)["error"]["reason"] == "StartFailed"
