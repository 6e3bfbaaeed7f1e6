"""Opt-outs against a real PostgreSQL: by recipient, by what stands for them, and by message."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.postgres.pool import create_pool
from outreach.vocabulary import Channel, MessageStatus
from tests.campaign_data import (
    Running,
    assert_exact,
    hash_of,
    recipient,
    running_campaign,
    statuses,
)
from tests.delivery_rig import Delivery, Rig, accepted, delivery_rig, report

S = MessageStatus
SMS, EMAIL = Channel.SMS, Channel.EMAIL
ADD, REMOVE = pb.OPT_OUT_ACTION_ADD, pb.OPT_OUT_ACTION_REMOVE


@pytest.fixture
async def delivery(database_dsn: str) -> AsyncIterator[Delivery]:
    pool = await create_pool(
        database_dsn, application_name="tests", connect_seconds_max=60, connections_max=20
    )
    yield Delivery(pool)
    await pool.close()


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[Rig]:
    async with delivery_rig(database_dsn) as rig:
        yield rig


def opt_out(organisation_id: UUID, channel: Channel = EMAIL, **more: Any) -> pb.OptOut:
    """At second 1,000, an opt-out, unless it is said otherwise."""
    seconds = more.pop("seconds", 1_000)
    return pb.OptOut(
        **{
            "organisation_id": str(organisation_id),
            "channel": int(channel),
            "action": ADD,
            "time": Timestamp(seconds=seconds),
            "source": "link",
            **more,
        }
    )


def of_message(campaign: Running, number: int, **more: Any) -> pb.OptOut:
    """By campaign and number, as SendGrid's events are told."""
    return opt_out(
        campaign.organisation_id, campaign_id=str(campaign.campaign_id), number=number, **more
    )


async def suppressions(delivery: Delivery) -> dict[bytes, tuple[bool, str, int]]:
    """By hash: whether suppressed, source, and when, in seconds."""
    rows = await delivery.pool.fetch(
        "SELECT recipient_hash, suppressed, source, extract(epoch FROM event_time)::int AS seconds"
        " FROM suppression"
    )
    return {
        row["recipient_hash"]: (row["suppressed"], row["source"], row["seconds"]) for row in rows
    }


async def test_a_recipient_is_named_in_three_ways_and_suppressed_in_each(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 4, channel=EMAIL)
    await delivery.opt(
        opt_out(campaign.organisation_id, recipient="Person1@Example.COM", source="reply"),
        opt_out(campaign.organisation_id, recipient_hash=hash_of(2, EMAIL), source="link"),
        of_message(campaign, 3, source="spam_report"),
    )
    assert await suppressions(delivery) == {
        hash_of(1, EMAIL): (True, "reply", 1_000),
        hash_of(2, EMAIL): (True, "link", 1_000),
        hash_of(3, EMAIL): (True, "spam_report", 1_000),
    }
    claimed = await delivery.claim(campaign, 4)
    assert [message.number for message in claimed.messages] == [4]
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.OPTED_OUT,
        2: S.OPTED_OUT,
        3: S.OPTED_OUT,
        4: S.SENDING,
    }
    await assert_exact(delivery.pool, campaign.campaign_id)


@pytest.mark.parametrize("source", ["", "a newer sender's word", "LINK", "x" * 10_000])
async def test_of_sources_only_known_ones_are_stored(delivery: Delivery, source: str) -> None:
    campaign = await running_campaign(delivery.pool, 1, channel=EMAIL)
    await delivery.opt(of_message(campaign, 1, source=source))
    assert await suppressions(delivery) == {hash_of(1, EMAIL): (True, "provider", 1_000)}


async def test_an_opt_out_by_link_counts_when_its_campaign_is_gone(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 2, channel=EMAIL)
    organisation_id = campaign.organisation_id
    for table in ("campaign", "message", "contact"):
        await delivery.pool.execute(f"DELETE FROM {table}")
    await delivery.opt(
        of_message(campaign, 2),  # nobody knows any more whose that was
        opt_out(organisation_id, recipient_hash=hash_of(1, EMAIL)),
    )
    assert await suppressions(delivery) == {hash_of(1, EMAIL): (True, "link", 1_000)}
    later = await running_campaign(delivery.pool, 2, organisation_id=organisation_id, channel=EMAIL)
    assert [m.number for m in (await delivery.claim(later, 2)).messages] == [2]


async def test_an_opt_out_of_a_message_is_of_its_own_organisation_and_channel(
    delivery: Delivery,
) -> None:
    email = await running_campaign(delivery.pool, 1, channel=EMAIL)
    sms = await running_campaign(delivery.pool, 1, organisation_id=email.organisation_id)
    other = await running_campaign(delivery.pool, 1, channel=EMAIL)
    await delivery.opt(
        opt_out(other.organisation_id, campaign_id=str(email.campaign_id), number=1),
        opt_out(email.organisation_id, campaign_id=str(sms.campaign_id), number=1),
        of_message(email, 2),
        of_message(Running(email.organisation_id, uuid4(), 1), 1),
        # One that names an organisation which is gone holds up no others.
        opt_out(uuid4(), recipient=recipient(1, EMAIL)),
        of_message(other, 1),
    )
    rows = await delivery.pool.fetch("SELECT organisation_id, channel FROM suppression")
    assert [tuple(row) for row in rows] == [(other.organisation_id, EMAIL)]
    assert len((await delivery.claim(email, 1)).messages) == 1
    assert len((await delivery.claim(sms, 1)).messages) == 1


async def test_an_opt_out_while_it_runs_turns_what_is_queued(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 6, channel=EMAIL)
    await delivery.claim(campaign, 2)
    await delivery.report(campaign, accepted(1), accepted(2))
    await delivery.report(campaign, report(1, pb.OUTCOME_DELIVERED))
    await delivery.opt(*(of_message(campaign, number) for number in (1, 2, 4, 6)))
    # What has gone out stays what it is; what has not is not sent.
    assert [m.number for m in (await delivery.claim(campaign, 10)).messages] == [3, 5]
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.DELIVERED,
        2: S.SENT,
        3: S.SENDING,
        4: S.OPTED_OUT,
        5: S.SENDING,
        6: S.OPTED_OUT,
    }
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_of_several_words_about_one_recipient_the_latest_counts(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 5, channel=EMAIL)

    def told(number: int, action: Any, seconds: int, **more: Any) -> pb.OptOut:
        return of_message(campaign, number, action=action, seconds=seconds, **more)

    words = [
        told(1, ADD, 100),
        told(1, REMOVE, 50),
        told(2, REMOVE, 150),
        told(2, ADD, 100),
        told(3, ADD, 100),
        told(3, REMOVE, 100),  # at the same second: the order of the events
        told(4, REMOVE, 100),
        opt_out(campaign.organisation_id, recipient=recipient(4, EMAIL), seconds=100),
        told(5, ADD, 100, source="spam_report"),
        opt_out(campaign.organisation_id, recipient_hash=hash_of(5, EMAIL), seconds=99),
    ]
    expected = {
        hash_of(1, EMAIL): (True, "link", 100),
        hash_of(2, EMAIL): (False, "link", 150),
        hash_of(3, EMAIL): (False, "link", 100),
        hash_of(4, EMAIL): (True, "link", 100),
        hash_of(5, EMAIL): (True, "spam_report", 100),
    }
    for word in words:
        await delivery.opt(word)
    assert await suppressions(delivery) == expected
    await delivery.pool.execute("DELETE FROM suppression")
    for _ in range(2):  # in one batch it is the same, and repeated it changes nothing
        await delivery.opt(*words)
        assert await suppressions(delivery) == expected


async def test_batches_about_the_same_recipients_do_not_lock_each_other_out(
    delivery: Delivery,
) -> None:
    """In another order each; that the provider dropped somebody is a suppression as well."""
    ahead = await running_campaign(delivery.pool, 400, channel=EMAIL)
    await delivery.pool.execute("UPDATE campaign SET status = 4, holds_channel = false")
    back = await running_campaign(
        delivery.pool, 400, organisation_id=ahead.organisation_id, channel=EMAIL
    )
    await delivery.pool.execute(
        "UPDATE contact c SET recipient_hash = o.recipient_hash FROM contact o "
        "WHERE c.campaign_id = $1 AND o.campaign_id = $2 AND o.number = 401 - c.number",
        back.campaign_id,
        ahead.campaign_id,
    )
    numbers = list(range(1, 401))

    async def drop(campaign: Running) -> None:
        for _ in range(8):
            await delivery.report(campaign, *(report(n, pb.OUTCOME_OPTED_OUT) for n in numbers))

    async def tell(seed: int) -> None:
        for _ in range(4):
            mixed = random.Random(seed).sample(numbers, len(numbers))
            await delivery.opt(*(of_message(ahead, n, seconds=1_000 + seed) for n in mixed))

    await asyncio.gather(drop(ahead), drop(back), *(tell(seed) for seed in range(4)))
    assert len(await suppressions(delivery)) == 400


ID = str(UUID(int=7))
REFUSED: dict[str, dict[str, Any]] = {
    "nobody": {},
    "two-ways": {"recipient": "a@example.com", "recipient_hash": bytes(16)},
    "hash-and-message": {"recipient_hash": bytes(16), "campaign_id": ID, "number": 1},
    "hash-too-short": {"recipient_hash": bytes(15)},
    "hash-too-long": {"recipient_hash": bytes(17)},
    "message-without-number": {"campaign_id": ID},
    "message-number-negative": {"campaign_id": ID, "number": -1},
    "campaign-id": {"campaign_id": "x", "number": 1},
    "number-alone": {"number": 1},
    "no-action": {"recipient": "a@example.com", "action": 0},
    "unknown-action": {"recipient": "a@example.com", "action": 9},
    "channel": {"recipient": "a@example.com", "channel": 3},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
async def test_what_can_not_be_stored_is_refused_and_nothing_of_its_batch_is(
    rig: Rig, fields: dict[str, Any]
) -> None:
    campaign = await running_campaign(rig.pool, 1, channel=EMAIL)
    sender = await rig.sender()
    right = of_message(campaign, 1)
    wrong = opt_out(campaign.organisation_id, **fields)
    await sender.batch(opt_outs=[right, wrong])
    assert (await sender.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert not await rig.pool.fetchval("SELECT count(*) FROM suppression")


async def test_a_batch_of_opt_outs_is_acknowledged_when_it_is_stored(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 3, channel=EMAIL)
    sender = await rig.sender()
    await sender.batch(opt_outs=[of_message(campaign, 2), of_message(campaign, 3, action=REMOVE)])
    await sender.acked(1)
    assert [m.number for m in (await sender.claim(campaign, 3)).messages] == [1, 3]
