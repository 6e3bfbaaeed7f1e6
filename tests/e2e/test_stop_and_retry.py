"""A run that is stopped half-way, resumed by retrying what was cancelled, and what failed retried: the provider's
ledger has each recipient once for each attempt that it accepted, never twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pytest

from outreach.client import CallError, OutreachClient
from outreach.local.stack import LocalStack
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.domain.failures import POINTLESS
from services.sandbox.knobs import Knobs
from services.sandbox.sendgrid.knobs import EmailKnobs
from tests.campaign_history import (
    END_SECONDS_MAX,
    EQUAL_SECONDS_MAX,
    History,
    counts_of,
    recipients,
)
from tests.email_history import EmailHistory, addresses
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

CANCELLED = message_pb2.MESSAGE_STATUS_CANCELLED
FINAL = {
    campaign_pb2.CAMPAIGN_STATUS_COMPLETE,
    campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
    campaign_pb2.CAMPAIGN_STATUS_FAILED,
}

SMS = Knobs(
    latency_ms=5,
    failed_codes={30003: 0.04, 30008: 0.02, 30005: 0.02},
    rejected_codes={21211: 0.01, 21612: 0.01, 21610: 0.01},
    callback_statuses=(),
    callback_delay_ms_min=50,
    callback_delay_ms_max=300,
)
EMAIL = EmailKnobs(
    latency_ms=8_000,  # the stop comes before the first ones are answered
    bounced_classes={"Mailbox Unavailable": 0.04, "Invalid Address": 0.02},
    dropped_reasons={"Unsubscribed Address": 0.01},
    event_delay_ms_min=20,
    event_delay_ms_max=200,
)
#: Everybody is reached at last.
SMS_LATER = Knobs(latency_ms=5, callback_delay_ms_min=50, callback_delay_ms_max=300)
EMAIL_LATER = EmailKnobs(event_delay_ms_min=20, event_delay_ms_max=200)


async def final(client: OutreachClient, campaign_id: str) -> campaign_pb2.Campaign:
    """The campaign, once it is."""
    seen: list[campaign_pb2.Campaign] = []

    async def is_final() -> bool:
        seen[:] = [await client.get_campaign(campaign_id)]
        return seen[0].status in FINAL

    await eventually(is_final, END_SECONDS_MAX, "the campaign is final")
    return seen[0]


async def retry(
    client: OutreachClient, campaign_id: str, *statuses: message_pb2.MessageStatus.ValueType
) -> campaign_pb2.RetryMessagesResponse:
    version = (await client.get_disclaimer()).version
    return await client.retry_messages(
        campaign_id, accepted_disclaimer_version=version, statuses=statuses
    )


async def stop(client: OutreachClient, campaign_id: str) -> campaign_pb2.Campaign:
    """Stop it, and see that all of it is stopped or on its way to an end."""
    stopped = await client.stop_campaign(campaign_id)
    assert stopped.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    with pytest.raises(CallError) as refused:
        await client.stop_campaign(campaign_id)
    assert refused.value.reason == "ACTION_NOT_ALLOWED"
    campaign = await final(client, campaign_id)
    assert campaign.HasField("stop_time")
    return campaign


def held_against(
    messages: Sequence[message_pb2.Message], accepted: Counter[str], retried: Iterable[str]
) -> None:
    """Once for the first time it was accepted, and once more where it was retried and delivered."""
    again = set(retried)
    wrong = [
        message.number
        for message in messages
        if message.recipient in again
        and (
            message.status != message_pb2.MESSAGE_STATUS_DELIVERED
            or accepted[message.recipient] not in (1, 2)
        )
    ]
    wrong += [
        message.number
        for message in messages
        if message.recipient not in again and accepted[message.recipient] > 1
    ]
    assert not wrong, f"messages {wrong[:10]}"


def failed(
    messages: Iterable[message_pb2.Message], *, pointless: bool
) -> list[message_pb2.Message]:
    return [
        message
        for message in messages
        if message.status == message_pb2.MESSAGE_STATUS_FAILED
        and (FailureReason(message.failure_reason) in POINTLESS) is pointless
    ]


async def hold_timelines(
    client: OutreachClient, campaign_id: str, numbers: Iterable[int], ids: Mapping[str, set[str]]
) -> None:
    """The attempts that were accepted are those of the ledger, by the provider's ids; `ids` by recipient."""
    for number in numbers:
        timeline = await client.get_message_timeline(campaign_id, number)
        told = [a.provider_message_id for a in timeline.attempts if a.provider_message_id]
        assert len(told) == len(set(told))
        assert set(told) == ids[timeline.message.recipient]
        assert [a.attempt for a in timeline.attempts] == sorted(
            {a.attempt for a in timeline.attempts}
        )
        assert timeline.attempts[-1].run == timeline.message.run == 3
        assert timeline.attempts[0].status == message_pb2.MESSAGE_STATUS_FAILED
        assert timeline.changes[-1].status == timeline.message.status


async def test_twenty_thousand_sms_stopped_resumed_and_retried(stack: LocalStack) -> None:
    to = (*recipients(221, 9_900), *recipients(222, 9_900), *recipients(223, 200))
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = History(client, sandbox, SMS, to)
        await history.prepare()
        await history.run()
        await history.in_the_middle(0.4)
        stopped = await stop(client, history.campaign_id)
        assert 4_000 < stopped.counts.cancelled < 15_000
        assert await history.accepted() < 16_000
        rows = [row async for row in sandbox.ledger_messages()]
        cancelled = {m.recipient for m in await history.messages() if m.status == CANCELLED}
        assert len(cancelled) == stopped.counts.cancelled
        assert cancelled.isdisjoint(row["to"] for row in rows)

        resumed = await retry(client, history.campaign_id, CANCELLED)
        assert resumed.retried == stopped.counts.cancelled
        # Ends as if it had never been stopped: each recipient once, each message as its fate says.
        campaign = await history.end()
        assert (campaign.run, campaign.counts.cancelled) == (2, 0)
        before = await history.messages()
        again, left = failed(before, pointless=False), failed(before, pointless=True)
        assert again
        assert left

        await sandbox.set_knobs(SMS_LATER.model_dump(mode="json"))
        retried = await retry(client, history.campaign_id)
        assert (retried.retried, retried.not_retryable) == (len(again), len(left))
        await final(client, history.campaign_id)
        delivered = campaign.counts.delivered + len(again)
        opted_out = campaign.counts.opted_out
        counts = {"delivered": delivered, "failed": len(left), "opted_out": opted_out}

        async def all_told() -> bool:
            return counts_of((await client.get_campaign(history.campaign_id)).counts) == counts

        await eventually(all_told, EQUAL_SECONDS_MAX, f"the counts are {counts}")
        rows = [row async for row in sandbox.ledger_messages()]
        held_against(
            await history.messages(), Counter(r["to"] for r in rows), (m.recipient for m in again)
        )
        assert (await sandbox.ledger())["attempts_accepted_more_than_once"] == 0
        ids: dict[str, set[str]] = {}
        for row in rows:
            ids.setdefault(row["to"], set()).add(row["sid"])
        # Refused ones are in the ledger once, those that failed on their way twice.
        assert {len(ids[message.recipient]) for message in again} == {1, 2}
        await hold_timelines(client, history.campaign_id, [m.number for m in again[:40]], ids)


async def test_twelve_thousand_emails_stopped_resumed_and_retried(stack: LocalStack) -> None:
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = EmailHistory(client, sandbox, EMAIL, addresses("stopped", 12_000))
        await history.prepare()
        await history.run()
        await history.in_the_middle(0.2)
        stopped = await stop(client, history.campaign_id)
        assert stopped.counts.cancelled > 0
        rows = await history.rows()
        assert 0 < len(rows) == history.total - stopped.counts.cancelled
        resumed = await retry(client, history.campaign_id, CANCELLED)
        assert resumed.retried == stopped.counts.cancelled
        campaign = await history.end()
        assert (campaign.run, campaign.counts.cancelled) == (2, 0)
        before = await history.messages()
        again, left = failed(before, pointless=False), failed(before, pointless=True)
        assert again
        assert left

        # They are on SendGrid's list of bounces by now; a retry goes past it.
        await sandbox.change_knobs({"email": EMAIL_LATER.model_dump(mode="json")})
        retried = await retry(client, history.campaign_id)
        assert (retried.retried, retried.not_retryable) == (len(again), len(left))
        await final(client, history.campaign_id)

        async def reached() -> bool:
            counts = (await client.get_campaign(history.campaign_id)).counts
            return counts.delivered == campaign.counts.delivered + len(again)

        await eventually(reached, END_SECONDS_MAX, "who bounced is reached")
        accepted = Counter(row["email"] for row in await history.rows())
        held_against(await history.messages(), accepted, (m.recipient for m in again))
        assert {accepted[message.recipient] for message in again} == {2}
        assert sum(accepted.values()) == history.total + len(again)
        ledger = await sandbox.email_ledger()
        assert ledger["attempts_accepted_more_than_once"] == 0
        statuses = Counter(MessageStatus(m.status).name for m in await history.messages())
        assert statuses["FAILED"] == len(left)
