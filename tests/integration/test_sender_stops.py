"""A stop as a running sender hears of it: nothing begins after it, and what was claimed is handed back at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from outreach.vocabulary import Outcome
from tests.sender_email_rig import sender_email_rig
from tests.sender_rig import Rig, sender_rig
from tests.waiting import eventually

CONCURRENCY = 4


async def held(rig: Rig, count: int) -> asyncio.Event:
    """So many messages are dispatched, and as many requests as may be are at the provider, which does not answer."""
    rig.twilio.hold = asyncio.Event()
    await rig.send(count)
    await eventually(lambda: rig.twilio.open == CONCURRENCY, 60, "requests are under way")
    await eventually(lambda: rig.campaign.statuses().get("SENDING", 0) > 20, 60, "more is claimed")
    return rig.twilio.hold


async def test_a_stop_hands_back_what_has_not_begun(nats_url: str, tmp_path: Path) -> None:
    async with sender_rig(
        nats_url,
        tmp_path,
        sender_sms_concurrency_start=CONCURRENCY,
        sender_sms_concurrency_max=CONCURRENCY,
    ) as rig:
        answer = await held(rig, 100)
        rig.campaign.stopped = True
        await rig.jobs.tell_raw_stop(b"not a stop")
        await rig.jobs.tell_stop(run=2)
        await rig.jobs.tell_stop()
        left = {"SENDING": CONCURRENCY, "QUEUED": 100 - CONCURRENCY}
        # The window is five minutes; nobody waits for that.
        await eventually(lambda: rig.campaign.statuses() == left, 60, "handed back at once")
        answer.set()
        left = {"SENT": CONCURRENCY, "QUEUED": 100 - CONCURRENCY}
        await eventually(lambda: rig.campaign.statuses() == left, 60, "the others went on")
        assert len(rig.twilio.creates) == CONCURRENCY
        await rig.jobs.none_left()
        assert not rig.campaign.failures, "a stop is no failure"
    for message in rig.campaign.messages.values():
        assert len(message.outcomes) <= 1, "settled once"


async def test_a_stop_of_another_run_changes_nothing(nats_url: str, tmp_path: Path) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.twilio.hold = asyncio.Event()
        await rig.send(50)
        await eventually(lambda: rig.twilio.open, 60, "requests are under way")
        await rig.jobs.tell_stop(run=2)
        rig.twilio.hold.set()
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 50}, 60, "all sent")


async def test_the_next_claim_tells_it_too(nats_url: str, tmp_path: Path) -> None:
    """Core NATS keeps nothing: a stop may be missed."""
    async with sender_rig(
        nats_url,
        tmp_path,
        sender_sms_concurrency_start=CONCURRENCY,
        sender_sms_concurrency_max=CONCURRENCY,
    ) as rig:
        answer = await held(rig, 100)
        rig.campaign.stopped = True
        claims = rig.campaign.claims
        answer.set()
        await eventually(lambda: rig.campaign.claims > claims, 60, "it claims again")

        def settled() -> bool:
            return set(rig.campaign.statuses()) == {"SENT", "QUEUED"}

        await eventually(settled, 60, "handed back")
        sent = rig.campaign.statuses()["SENT"]
        assert sent < 100, "not all that was claimed"
        assert len(rig.twilio.creates) == sent


async def test_emails_that_lie_ready_are_handed_back(nats_url: str, tmp_path: Path) -> None:
    async with sender_email_rig(
        nats_url, tmp_path, sender_email_concurrency_start=1, sender_email_concurrency_max=1
    ) as rig:
        await rig.sandbox.set(latency_ms=8_000)
        await rig.send(3_000)
        await eventually(
            lambda: rig.campaign.statuses().get("SENDING", 0) >= 2_000, 60, "a second is claimed"
        )
        rig.campaign.stopped = True
        await rig.jobs.tell_stop()
        await rig.settled({"SENT": 1_000, "QUEUED": 2_000})
        assert len(await rig.sandbox.rows()) == 1_000
        handed_back = [
            message
            for message in rig.campaign.messages.values()
            if message.outcomes == [(1, Outcome.HANDED_BACK)]
        ]
        assert len(handed_back) >= 1_000
        await rig.jobs.none_left()
