"""The sender as a process of its own: killed, restarted, ended by SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outreach.local.ports import free_port
from outreach.sending.journal import Journal, read_journal
from outreach.vocabulary import Outcome
from tests.campaign_double import TOKEN, CampaignDouble
from tests.sender_rig import TOKEN_KEY, Jobs
from tests.twilio_double import TwilioDouble
from tests.waiting import eventually


class Sender:
    """Starts `python -m services.sender_sms` against the peers."""

    def __init__(
        self, campaign: CampaignDouble, twilio: TwilioDouble, environment: dict[str, str]
    ) -> None:
        self.campaign = campaign
        self.twilio = twilio
        self.environment = environment
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self, **changes: str) -> asyncio.subprocess.Process:
        streams = len(self.campaign.instances)
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.sender_sms",
            env={
                **os.environ,
                **self.environment,
                "OUTREACH_SENDER_SMS_HTTP_PORT": str(port),
                "OUTREACH_SENDER_SMS_WEBHOOK_URL": f"http://127.0.0.1:{port}",
                **changes,
            },
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
async def peers(nats_url: str, journal_dir: Path) -> AsyncIterator[tuple[Sender, Jobs]]:
    campaign, twilio = CampaignDouble(), TwilioDouble()
    async with campaign.serving() as address, twilio.serving() as url:
        sender = Sender(
            campaign,
            twilio,
            {
                "OUTREACH_NATS_URL": nats_url,
                "OUTREACH_CAMPAIGN_INTERNAL_ADDRESS": address,
                "OUTREACH_INTERNAL_TOKEN": TOKEN,
                "OUTREACH_ATTEMPT_TOKEN_KEY": TOKEN_KEY,
                "OUTREACH_SENDER_JOURNAL_DIR": str(journal_dir),
                "OUTREACH_TWILIO_API_URL": url,
                # Longer than a test: what is held ends when the test says so.
                "OUTREACH_SENDER_SMS_REQUEST_SECONDS_MAX": "300",
                "OUTREACH_SENDER_DRAIN_SECONDS_MAX": "120",
            },
        )
        try:
            yield sender, Jobs(nats_url, campaign.organisation_id, campaign.campaign_id)
        finally:
            await sender.end()


async def _kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL


async def test_after_a_kill_what_had_begun_is_unknown_and_the_rest_is_sent(
    nats_url: str, tmp_path: Path
) -> None:
    async with peers(nats_url, tmp_path) as (sender, jobs):
        campaign, twilio = sender.campaign, sender.twilio
        process = await sender.start()
        campaign.add(200)
        twilio.hold = asyncio.Event()
        await jobs.publish(1, 200)
        await eventually(lambda: twilio.open == 32, 60, "requests under way")
        await eventually(lambda: campaign.statuses().get("SENDING", 0) > 32, 60, "more is claimed")
        await _kill(process)
        twilio.hold.set()
        await eventually(lambda: twilio.open == 0, 60, "the provider took what had arrived")
        begun = {to for to, _ in twilio.accepted}
        assert len(begun) == 32

        await sender.start()
        await eventually(lambda: campaign.ended, 60, "the dead sender's journal is adopted")
        await jobs.publish(1, 200)
        await eventually(
            lambda: campaign.statuses() == {"UNKNOWN": 32, "SENT": 168}, 240, "the rest is sent"
        )
        unknown = {m.recipient for m in campaign.messages.values() if m.status == "UNKNOWN"}
        assert unknown == begun
        recipients = [to for to, _ in twilio.accepted]
        assert len(recipients) == len(set(recipients)) == 200, "nobody twice"


async def test_after_a_kill_unacknowledged_reports_are_sent_by_the_next_sender(
    nats_url: str, tmp_path: Path
) -> None:
    async with peers(nats_url, tmp_path) as (sender, jobs):
        campaign, twilio = sender.campaign, sender.twilio
        campaign.acknowledge.clear()
        process = await sender.start()
        campaign.add(50)
        await jobs.publish(1, 50)
        await eventually(lambda: len(twilio.accepted) == 50, 60, "all created")
        (journal,) = tmp_path.glob("*.journal")
        await eventually(
            lambda: not read_journal(journal.read_bytes()).begun, 60, "all reports are journaled"
        )
        await _kill(process)
        assert campaign.statuses() == {"SENDING": 50}
        campaign.acknowledge.set()
        await sender.start()
        await eventually(lambda: campaign.statuses() == {"SENT": 50}, 60, "all reported")
        await eventually(lambda: campaign.ended, 60, "the dead instance ended")
        assert not journal.exists(), "an adopted journal is removed"
        assert all(not ended.begun for ended in campaign.ended)
        assert len(twilio.accepted) == 50


async def test_a_sender_that_was_paused_begins_nothing_after_its_windows(
    nats_url: str, tmp_path: Path
) -> None:
    """Stopped with claims in hand, as by a debugger or a suspended machine, and let go much later."""
    async with peers(nats_url, tmp_path) as (sender, jobs):
        campaign, twilio = sender.campaign, sender.twilio
        campaign.window_seconds = 6
        process = await sender.start()
        campaign.add(200)
        twilio.hold = asyncio.Event()
        await jobs.publish(1, 200)
        await eventually(lambda: twilio.open == 32, 60, "requests under way")
        await eventually(lambda: campaign.statuses().get("SENDING", 0) > 32, 60, "more is claimed")
        process.send_signal(signal.SIGSTOP)
        claimed = {m.recipient for m in campaign.messages.values() if m.status == "SENDING"}
        over = time.monotonic() + campaign.window_seconds
        twilio.hold.set()
        await eventually(lambda: len(twilio.accepted) == 32, 60, "what had begun is accepted")
        begun = {to for to, _ in twilio.accepted}
        await eventually(lambda: time.monotonic() > over, 60, "the windows are over")
        campaign.window_seconds = 300
        process.send_signal(signal.SIGCONT)
        await jobs.publish(1, 200)
        await eventually(lambda: campaign.statuses() == {"SENT": 200}, 240, "all is sent")
        recipients = [to for to, _ in twilio.accepted]
        assert len(recipients) == len(set(recipients)) == 200, "nobody twice"
        for message in campaign.messages.values():
            if message.recipient in claimed - begun:
                assert message.outcomes[0] == (1, Outcome.HANDED_BACK)
                assert message.attempt > 1


async def test_a_living_sibling_adopts_too(nats_url: str, tmp_path: Path) -> None:
    async with peers(nats_url, tmp_path) as (sender, jobs):
        campaign, twilio = sender.campaign, sender.twilio
        first = await sender.start()
        twilio.hold = asyncio.Event()
        campaign.add(100)
        await jobs.publish(1, 100)
        await eventually(lambda: twilio.open == 32, 60, "requests under way")
        second = await sender.start()
        await _kill(first)
        twilio.hold.set()
        await eventually(lambda: campaign.ended, 60, "the sibling tells")
        assert campaign.ended[0].instance_id == campaign.instances[0]
        assert second.returncode is None
        await jobs.publish(1, 100)
        await eventually(
            lambda: campaign.statuses() == {"UNKNOWN": 32, "SENT": 68}, 240, "the rest is sent"
        )


async def test_after_a_power_failure_nothing_is_said_about_what_had_begun(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outreach.sending.journal.boot_id", lambda: "an earlier start")
    async with peers(nats_url, tmp_path) as (sender, _):
        campaign = sender.campaign
        campaign.add(2)
        from uuid import uuid4

        instance_id = uuid4()
        for message in campaign.messages.values():
            message.status, message.attempt = "SENDING", 1
            message.claimed_by = str(instance_id)
        journal = Journal(tmp_path)
        index = journal.open_instance(instance_id)
        journal.begun(index, campaign.campaign_id.bytes, [(1, 1)])
        journal.begun(index, campaign.campaign_id.bytes, [(2, 1)])
        from outreach.internal.v1 import delivery_pb2
        from outreach.sending.outcomes import AttemptOutcome
        from outreach.vocabulary import Outcome

        report = AttemptOutcome(2, 1, Outcome.ACCEPTED, "SM2").to_report()
        journal.reports(
            1,
            delivery_pb2.ReportBatch(
                campaigns=[
                    delivery_pb2.CampaignReports(
                        campaign_id=str(campaign.campaign_id), reports=[report]
                    )
                ]
            ),
        )
        path = journal.path
        os.close(journal._file)  # the process is gone, the file is not
        await sender.start()
        await eventually(lambda: not path.exists(), 60, "the journal is adopted")
        assert campaign.statuses() == {"SENDING": 1, "SENT": 1}, "the report counts, no more"
        assert campaign.ended == []


async def test_sigterm_finishes_what_has_begun_and_hands_back_the_rest(
    nats_url: str, tmp_path: Path
) -> None:
    async with peers(nats_url, tmp_path) as (sender, jobs):
        campaign, twilio = sender.campaign, sender.twilio
        process = await sender.start()
        twilio.hold = asyncio.Event()
        campaign.add(300)
        await jobs.publish(1, 300)
        await eventually(lambda: twilio.open == 32, 60, "requests under way")
        process.send_signal(signal.SIGTERM)
        await eventually(
            lambda: campaign.statuses().get("SENDING") == 32, 60, "what had not begun is back"
        )
        assert process.returncode is None
        twilio.hold.set()
        assert await asyncio.wait_for(process.wait(), 240) == 0
        assert campaign.statuses() == {"SENT": 32, "QUEUED": 268}
        assert campaign.ended[-1].instance_id == campaign.instances[-1]
        assert list(tmp_path.iterdir()) == []


async def test_sigterm_without_a_campaign_service_ends_in_time_and_keeps_the_journal(
    nats_url: str, tmp_path: Path
) -> None:
    async with peers(nats_url, tmp_path) as (sender, jobs):
        campaign, twilio = sender.campaign, sender.twilio
        campaign.acknowledge.clear()
        process = await sender.start(OUTREACH_SENDER_DRAIN_SECONDS_MAX="1")
        campaign.add(10)
        await jobs.publish(1, 10)
        await eventually(lambda: len(twilio.accepted) == 10, 60, "created")
        (journal,) = tmp_path.glob("*.journal")
        await eventually(
            lambda: not read_journal(journal.read_bytes()).begun, 60, "all reports are journaled"
        )
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 240) == 0
        assert len(read_journal(journal.read_bytes()).batches) >= 1
        campaign.acknowledge.set()
        await sender.start()
        await eventually(lambda: campaign.statuses() == {"SENT": 10}, 60, "told by the next one")


async def test_missing_settings_are_named(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.sender_sms",
        env={"PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"OUTREACH_INTERNAL_TOKEN: " in errors


#: The stream's task ends as it did after a CancelledError that grpc.aio had raised by itself.
_STREAM_THAT_ENDS = """
import asyncio, sys
from outreach.sending.stream import DeliveryStream
from services.sender_sms.__main__ import start
async def run(self): raise asyncio.CancelledError
DeliveryStream.run = run
sys.exit(start())
"""


async def test_a_part_that_ends_by_itself_ends_the_process(nats_url: str, tmp_path: Path) -> None:
    async with peers(nats_url, tmp_path) as (sender, _):
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _STREAM_THAT_ENDS,
            env={
                **os.environ,
                **sender.environment,
                "OUTREACH_SENDER_SMS_HTTP_PORT": str(port),
                "OUTREACH_SENDER_SMS_WEBHOOK_URL": f"http://127.0.0.1:{port}",
            },
            stderr=asyncio.subprocess.PIPE,
        )
        sender.running.append(process)
        _, logs = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 1
    assert b'"task": "stream"' in logs
    assert b"background_task_ended" in logs
    assert b"Traceback" not in logs
