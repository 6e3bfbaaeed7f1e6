"""Streams that break, acknowledgements that fail to come: nothing lost, nothing sent twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from outreach.vocabulary import Outcome
from tests.sender_rig import Rig, sender_rig
from tests.twilio_double import Reply
from tests.waiting import eventually


async def _streams(rig: Rig, count: int) -> None:
    await eventually(lambda: len(rig.campaign.instances) == count, 60, "another stream")


async def _created(rig: Rig, count: int) -> None:
    await eventually(lambda: len(rig.twilio.accepted) >= count, 240, "progress")


def _once(rig: Rig, count: int) -> None:
    recipients = [to for to, _ in rig.twilio.accepted]
    assert len(recipients) == len(set(recipients)) == count


async def test_reports_are_sent_again_after_a_cut_until_they_are_acknowledged(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.campaign.acknowledge.clear()
        await rig.send(50)
        await eventually(lambda: len(rig.twilio.accepted) == 50, 60, "all created")
        assert await rig.jobs.left() == 1, "not acknowledged before the commit"
        for expected in (2, 3):
            rig.campaign.cut_streams()
            await _streams(rig, expected)
        rig.campaign.acknowledge.set()
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 50}, 60, "all reported")
        _once(rig, 50)


async def test_a_claim_whose_answer_was_lost_is_claimed_again(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.campaign.lose_claim_answers = 2
        await rig.send(40)
        await eventually(lambda: len(rig.campaign.ended) >= 2, 60, "the broken instances ended")
        # the dispatcher would send the range again; a redelivered job does it here
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 40}, 60, "all sent")
        _once(rig, 40)
        assert all(not ended.begun for ended in rig.campaign.ended)


async def test_an_instance_ends_only_after_all_it_had_claimed_is_committed(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.twilio.hold = asyncio.Event()
        await rig.send(10)
        await eventually(lambda: rig.twilio.open == 10, 60, "requests under way")
        rig.campaign.cut_streams()
        await eventually(lambda: len(rig.campaign.instances) == 2, 60, "another stream")
        assert rig.campaign.ended == []
        rig.twilio.hold.set()
        await eventually(lambda: rig.campaign.ended, 60, "the first instance ended")
        assert rig.campaign.statuses() == {"SENT": 10}
        assert rig.campaign.ended[0].instance_id == rig.campaign.instances[0]
        _once(rig, 10)


async def test_streams_cut_all_the_time_lose_and_double_nothing(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.twilio.script = lambda fields, tries: (
            Reply(429) if tries == 1 and fields["To"].endswith("7") else Reply()
        )
        await rig.send(2_000)
        for size in range(200, 2_000, 200):
            await _created(rig, size)
            rig.campaign.cut_streams()
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 2_000}, 240, "all sent")
        _once(rig, 2_000)
        for message in rig.campaign.messages.values():
            accepted = {attempt for attempt, what in message.outcomes if what is Outcome.ACCEPTED}
            assert accepted == {message.attempt}


async def test_unacknowledged_reports_stop_the_claims(nats_url: str, tmp_path: Path) -> None:
    async with sender_rig(nats_url, tmp_path, sender_reports_unacknowledged_max=100) as rig:
        rig.campaign.acknowledge.clear()
        await rig.send(5_000)
        await eventually(lambda: len(rig.twilio.accepted) >= 100, 240, "a first part")
        claims = -1

        def settled() -> bool:
            nonlocal claims
            before, claims = claims, rig.campaign.claims
            return before == claims and rig.twilio.open == 0

        await eventually(settled, 240, "claims have stopped")
        assert len(rig.twilio.accepted) < 1_500
        rig.campaign.acknowledge.set()
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 5_000}, 240, "all sent")
        _once(rig, 5_000)


async def test_a_malformed_job_is_put_aside(nats_url: str, tmp_path: Path) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        await rig.jobs.publish_raw(b"not a job")
        await rig.send(5)
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 5}, 60, "the next job is done")
        await rig.jobs.none_left()


async def test_a_wiped_job_store_is_set_up_again(nats_url: str, tmp_path: Path) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        await rig.send(5)
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 5}, 60, "sent")
        await rig.jobs.wipe()
        await rig.send(5)
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 10}, 60, "sent after the wipe")
        _once(rig, 10)
