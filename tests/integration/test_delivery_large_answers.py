"""Answers to senders stay below what a stream takes in one message, however long the contacts' values are."""

from collections.abc import AsyncIterator

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.vocabulary import Channel, MessageStatus
from tests.campaign_data import Running, assert_exact, running_campaign
from tests.delivery_rig import Rig, delivery_rig

#: A contact file takes 64 columns of 4 KB.
VALUE = "x" * 4_096
CONTACTS = 1_000


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[Rig]:
    async with delivery_rig(database_dsn) as rig:
        yield rig


async def _large(rig: Rig, channel: Channel, contacts: int, values: int) -> Running:
    campaign = await running_campaign(rig.pool, contacts, channel=channel)
    await rig.pool.execute(
        "UPDATE contact SET variables = array_fill($2::text, ARRAY[$3::int]) WHERE campaign_id = $1",
        campaign.campaign_id,
        VALUE,
        values,
    )
    return campaign


@pytest.mark.parametrize("channel", Channel)
async def test_all_contacts_are_claimed_however_long_their_values_are(
    rig: Rig, channel: Channel
) -> None:
    campaign = await _large(rig, channel, CONTACTS, 3)
    sender = await rig.sender()
    numbers: list[int] = []
    state = pb.CLAIM_STATE_OPEN
    while state == pb.CLAIM_STATE_OPEN:
        result = await sender.claim(campaign, CONTACTS)
        state = result.state
        numbers += [message.number for message in result.messages]
    assert state == pb.CLAIM_STATE_EXHAUSTED
    assert numbers == list(range(1, CONTACTS + 1))
    assert set((await rig.statuses(campaign)).values()) == {MessageStatus.SENDING}
    await assert_exact(rig.pool, campaign.campaign_id)


async def test_a_contact_as_long_as_a_file_takes_it_is_claimed(rig: Rig) -> None:
    campaign = await _large(rig, Channel.EMAIL, 2, 63)
    sender = await rig.sender()
    result = await sender.claim(campaign, CONTACTS)
    assert [message.number for message in result.messages] == [1, 2]
    assert result.state == pb.CLAIM_STATE_EXHAUSTED


@pytest.mark.parametrize("channel", Channel)
async def test_unknown_attempts_are_looked_up_however_long_their_values_are(
    rig: Rig, channel: Channel
) -> None:
    campaign = await _large(rig, channel, 100, 30)
    sender = await rig.sender()
    claimed = 0
    while claimed < campaign.contacts:
        claimed += len((await sender.claim(campaign, CONTACTS)).messages)
    await sender.report(campaign, pb.OUTCOME_UNKNOWN, *range(1, 101))
    await sender.acked(1)
    numbers: set[int] = set()
    while len(numbers) < campaign.contacts:
        request = pb.LookUpRequest(look_up_id=1, campaign_id=str(campaign.campaign_id), limit=100)
        await sender.write(look_up=request)
        attempts = (await sender.read("look_up")).look_up.attempts
        assert attempts, "what did not fit is due at once"
        numbers |= {attempt.message.number for attempt in attempts}
    assert numbers == set(range(1, 101))
