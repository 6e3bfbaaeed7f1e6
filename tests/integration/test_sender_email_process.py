"""The email sender as a process of its own: killed under its requests, restarted, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from outreach.sending.journal import read_journal
from outreach.vocabulary import Channel
from tests.campaign_double import TOKEN
from tests.email_campaign_double import EmailCampaignDouble
from tests.integration.test_sender_email_outcomes import unknown_attempt
from tests.sender_email_rig import PUBLIC_URL, SandboxClient, sandbox_client
from tests.sender_rig import TOKEN_KEY, Jobs
from tests.waiting import eventually


class Sender:
    """Starts `python -m services.sender_email` against the peers."""

    def __init__(self, campaign: EmailCampaignDouble, environment: dict[str, str]) -> None:
        self.campaign = campaign
        self.environment = environment
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self, **changes: str) -> asyncio.subprocess.Process:
        streams = len(self.campaign.instances)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.sender_email",
            env={**os.environ, **self.environment, **changes},
        )
        self.running.append(process)
        await eventually(lambda: len(self.campaign.instances) > streams, 240, "its stream")
        return process

    async def end(self) -> None:
        for process in self.running:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def peers(
    nats_url: str, directory: Path, **knobs: object
) -> AsyncIterator[tuple[Sender, SandboxClient, Jobs]]:
    campaign = EmailCampaignDouble()
    async with (
        campaign.serving() as address,
        sandbox_client(directory / "sandbox", **knobs) as sandbox,
    ):
        sender = Sender(
            campaign,
            {
                "OUTREACH_NATS_URL": nats_url,
                "OUTREACH_CAMPAIGN_INTERNAL_ADDRESS": address,
                "OUTREACH_INTERNAL_TOKEN": TOKEN,
                "OUTREACH_ATTEMPT_TOKEN_KEY": TOKEN_KEY,
                "OUTREACH_SENDER_JOURNAL_DIR": str(directory / "journals"),
                "OUTREACH_SENDGRID_API_URL": sandbox.url,
                "OUTREACH_SENDER_EMAIL_HTTP_PORT": "0",
                "OUTREACH_SENDER_EMAIL_PUBLIC_URL": PUBLIC_URL,
                "OUTREACH_SENDER_EMAIL_CONCURRENCY_START": "2",
                "OUTREACH_SENDER_EMAIL_CONCURRENCY_MAX": "2",
                "OUTREACH_SENDER_EMAIL_REQUEST_SECONDS_MAX": "300",
                "OUTREACH_SENDER_DRAIN_SECONDS_MAX": "120",
            },
        )
        jobs = Jobs(nats_url, campaign.organisation_id, campaign.campaign_id, Channel.EMAIL)
        try:
            yield sender, sandbox, jobs
        finally:
            await sender.end()


def _begun(directory: Path) -> int:
    """Attempts that a kill would leave in doubt now."""
    return sum(
        len(read_journal(path.read_bytes()).begun)
        for path in (directory / "journals").glob("*.journal")
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL


async def _publish(jobs: Jobs, count: int) -> None:
    for first in range(1, count + 1, 1_000):
        await jobs.publish(first, first + 999)


async def test_after_a_kill_nobody_receives_two_and_nobody_is_missed(
    nats_url: str, tmp_path: Path
) -> None:
    async with peers(nats_url, tmp_path, latency_ms=12_000) as (sender, sandbox, jobs):
        campaign = sender.campaign
        process = await sender.start()
        campaign.add(4_000)
        await _publish(jobs, 4_000)
        await eventually(lambda: _begun(tmp_path) == 2_000, 240, "two requests under way")
        await eventually(
            lambda: campaign.statuses().get("SENDING", 0) > 2_000, 240, "more is claimed"
        )
        await _kill(process)
        await sandbox.set(latency_ms=0)
        await sender.start()
        await eventually(lambda: campaign.ended, 60, "the dead sender's journal is adopted")
        await _publish(jobs, 4_000)
        await eventually(
            lambda: campaign.statuses() == {"UNKNOWN": 2_000, "SENT": 2_000},
            240,
            "the rest is sent",
        )

        async def all_taken() -> bool:
            return bool((await sandbox.totals())["accepted"] == 4_000)

        await eventually(all_taken, 240, "what was under way was taken")
        unknown = [n for n, message in campaign.messages.items() if message.status == "UNKNOWN"]
        campaign.unknown_due = [unknown_attempt(campaign, number) for number in unknown]
        await jobs.publish(1, 1, kind="look_up")
        await eventually(
            lambda: campaign.statuses() == {"DELIVERED": 2_000, "SENT": 2_000}, 240, "looked up"
        )
        totals = await sandbox.totals()
        assert totals["distinct_recipients"] == totals["accepted"] == 4_000
        assert totals["attempts_accepted_more_than_once"] == 0


def _accept_send(server: socket.socket) -> socket.socket:
    """The first request that is a send: beside it the account is checked."""
    while True:
        connection, _ = server.accept()
        if connection.recv(4, socket.MSG_PEEK) == b"POST":
            return connection
        connection.close()


async def test_a_kill_under_the_body_leaves_nobody_in_doubt(nats_url: str, tmp_path: Path) -> None:
    """Megabytes were on their way, but no request had its end."""
    async with peers(nats_url, tmp_path) as (sender, sandbox, jobs):
        campaign = sender.campaign
        campaign.attachments = {"film": bytes(range(256)) * 60_000}
        campaign.add(1_000)
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            process = await sender.start(OUTREACH_SENDGRID_API_URL=url)
            await jobs.publish(1, 1_000)
            connection = await asyncio.to_thread(_accept_send, deaf)
            with connection:
                head = await asyncio.to_thread(connection.recv, 65_536, socket.MSG_WAITALL)
                assert b"personalizations" not in head
                assert head.startswith(b"POST /v3/mail/send HTTP/1.1\r\n")
                assert campaign.statuses() == {"SENDING": 1_000}
                assert _begun(tmp_path) == 0
                await _kill(process)
        await sender.start()
        # the job itself may come back right after, and send them
        back = ({"QUEUED": 1_000}, {"SENT": 1_000})
        await eventually(lambda: campaign.statuses() in back, 240, "handed back")
        assert all(not ended.begun for ended in campaign.ended)
        await jobs.publish(1, 1_000)
        await eventually(lambda: campaign.statuses() == {"SENT": 1_000}, 240, "sent")
        assert (await sandbox.totals())["accepted"] == 1_000


async def test_sigterm_finishes_the_requests_under_way_and_hands_back_the_rest(
    nats_url: str, tmp_path: Path
) -> None:
    async with peers(nats_url, tmp_path, latency_ms=8_000) as (sender, sandbox, jobs):
        campaign = sender.campaign
        process = await sender.start()
        campaign.add(4_000)
        await _publish(jobs, 4_000)
        await eventually(lambda: _begun(tmp_path) == 2_000, 240, "two requests under way")
        await eventually(
            lambda: campaign.statuses().get("SENDING", 0) > 2_000, 240, "more is claimed"
        )
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 240) == 0
        assert campaign.statuses() == {"SENT": 2_000, "QUEUED": 2_000}
        assert (await sandbox.totals())["accepted"] == 2_000
        assert list((tmp_path / "journals").iterdir()) == []


async def test_missing_settings_are_named() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.sender_email",
        env={"PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"OUTREACH_SENDER_EMAIL_PUBLIC_URL: " in errors
