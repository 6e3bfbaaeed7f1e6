"""The SMS sender from job to acknowledged report, against real peers."""

from __future__ import annotations

from pathlib import Path

from tests.sender_rig import sender_rig
from tests.waiting import eventually


async def test_every_message_of_a_job_is_sent_once_and_reported(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        await rig.send(700)
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 700}, 240, "all sent")
        recipients = [to for to, _ in rig.twilio.accepted]
        assert len(recipients) == len(set(recipients)) == 700
        bodies = {fields["To"]: fields["Body"] for fields in rig.twilio.creates}
        assert bodies["+41790000042"] == "Hello name 42"
        assert rig.campaign.content_calls == 1
        assert rig.campaign.account_calls == 1
        await rig.jobs.none_left()
    assert list(tmp_path.iterdir()) == [], "a sender that ended well leaves no journal"
