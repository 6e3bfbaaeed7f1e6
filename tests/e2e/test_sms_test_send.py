"""Test sends through all processes: the same way as a run, beside one, and never twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from outreach.client import CallError, OutreachClient
from outreach.local.sandbox_client import SandboxClient
from outreach.local.stack import LocalStack
from outreach.v1 import failure_reason_pb2, message_pb2, test_send_pb2
from outreach.v1.campaign_pb2 import (
    CAMPAIGN_STATUS_COMPLETE,
    CAMPAIGN_STATUS_CREATED,
    CAMPAIGN_STATUS_IN_PROGRESS,
    SmsContent,
)
from services.sandbox.fates import Fates
from services.sandbox.knobs import Knobs
from tests.campaign_history import SEED, History, counts_of, recipients
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

CONTACTS = 600
# Slow enough for a run to last; the refusals are for those who get a test.
KNOBS = Knobs(
    latency_ms=300,
    concurrency_max=20,
    rejected_codes={21211: 0.3},
    callback_delay_ms_min=50,
    callback_delay_ms_max=500,
)
# The provider accepts in the middle of the request, answers 3 s later, and tells of the end after that.
SLOW = Knobs(
    latency_ms=6_000,
    callback_statuses=(),
    callback_delay_ms_min=4_000,
    callback_delay_ms_max=5_000,
)


def split(area_code: int) -> tuple[list[str], list[str]]:
    """Recipients of an area: those whom the provider takes, and those whom it refuses."""
    fates = Fates(KNOBS, SEED)
    taken: list[str] = []
    refused: list[str] = []
    for to in recipients(area_code, 2 * CONTACTS):
        (refused if fates.of(to).rejected_code else taken).append(to)
    return taken, refused


async def texts(sandbox: SandboxClient, to: str) -> list[str]:
    """What this recipient got lately, in the order of acceptance."""
    return [row["body"] for row in reversed(await sandbox.recent_messages()) if row["to"] == to]


async def times(sandbox: SandboxClient) -> Counter[str]:
    """How often the provider accepted something, by recipient."""
    return Counter([row["to"] async for row in sandbox.ledger_messages()])


async def opted_out(client: OutreachClient, sandbox: SandboxClient, to: str) -> None:
    """This recipient answers STOP, and we know it."""
    assert (await sandbox.reply(to, "STOP"))["receiver_status"] == 204
    campaign = await client.create_campaign(name="Who stopped", sms=SmsContent(body="Hi"))
    upload = await client.upload_contacts(
        campaign.id, f"phone\r\n{to}\r\n".encode(), consent_confirmed=True
    )
    await client.import_contacts(campaign.id, upload.id)

    async def known() -> bool:
        return (await client.estimate_campaign(campaign.id)).suppressed == 1

    await eventually(known, 30, "the STOP is taken in")


async def final(client: OutreachClient, test_send_id: str) -> test_send_pb2.TestSend:
    """The test send once nothing more is to come of it."""

    async def ended() -> test_send_pb2.TestSend | None:
        test = await client.get_test_send(test_send_id)
        return test if test.final else None

    test = await eventually(ended, 60, "the test send is final")
    assert test is not None
    return test


async def test_a_test_goes_out_beside_a_run_and_changes_no_campaign(stack: LocalStack) -> None:
    taken, refused = split(221)
    to, stopped, contacts = taken[0], taken[1], taken[2 : CONTACTS + 2]
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = History(client, sandbox, KNOBS, contacts)
        await history.prepare()
        await opted_out(client, sandbox, stopped)
        draft = await client.create_campaign(
            name="A draft", sms=SmsContent(body="Hi {{name}}, {{city|town}} calls.")
        )
        assert draft.status == CAMPAIGN_STATUS_CREATED
        await history.run()
        await history.in_the_middle(0.1)

        test = await client.create_test_send(
            draft.id, [to, refused[0], stopped], values={"name": "Ada"}
        )
        assert await texts(sandbox, to) == ["[Test] Hi Ada, town calls."]
        own = await client.create_test_send(history.campaign_id, [to], values={"name": "Bob"})
        last = (await texts(sandbox, to))[-1]
        assert last == "[Test] Hi Bob, see you soon. STOP to opt out."
        running = await client.get_campaign(history.campaign_id)
        assert running.status == CAMPAIGN_STATUS_IN_PROGRESS, "too late to be beside it"
        assert running.counts.total == CONTACTS

        accepted, rejected, suppressed = test.messages
        assert accepted.status in (
            message_pb2.MESSAGE_STATUS_SENT,
            message_pb2.MESSAGE_STATUS_DELIVERED,
        )
        assert accepted.provider_message_id.startswith("SM")
        assert rejected.status == message_pb2.MESSAGE_STATUS_FAILED
        assert rejected.failure_reason == failure_reason_pb2.FAILURE_REASON_INVALID_RECIPIENT
        assert rejected.provider_code == "21211"
        assert suppressed.status == message_pb2.MESSAGE_STATUS_OPTED_OUT
        ends = [message.status for message in (await final(client, test.id)).messages]
        assert ends[0] == message_pb2.MESSAGE_STATUS_DELIVERED
        assert ends[1:] == [rejected.status, suppressed.status]
        await final(client, own.id)

        assert await client.get_campaign(draft.id) == draft

        async def complete() -> bool:
            campaign = await client.get_campaign(history.campaign_id)
            return campaign.status == CAMPAIGN_STATUS_COMPLETE

        await eventually(complete, 60, "the run is complete")
        counts = counts_of((await client.get_campaign(history.campaign_id)).counts)
        assert sum(counts.values()) == CONTACTS
        assert counts.keys() <= {"delivered", "assumed_delivered"}
        assert await times(sandbox) == {**dict.fromkeys(contacts, 1), to: 2}
        names = {campaign.id async for campaign in client.all_campaigns()}
        assert not names & {test.id, own.id}
        with pytest.raises(CallError, match="CAMPAIGN_NOT_FOUND"):
            await client.get_campaign(test.id)


async def test_a_sender_that_is_killed_sends_no_test_twice(stack: LocalStack) -> None:
    (to,) = recipients(222, 1)
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        await sandbox.reset_ledger()
        await sandbox.set_knobs(SLOW.model_dump(mode="json"))
        draft = await client.create_campaign(name="A draft", sms=SmsContent(body="Hi {{name}}"))
        sending = asyncio.create_task(client.create_test_send(draft.id, [to]))

        async def is_accepted() -> bool:
            return await texts(sandbox, to) != []

        await eventually(is_accepted, 30, "the provider has accepted it")
        pid = stack.supervisor.kill("sender-sms-1")
        assert not sending.done(), "its answer was still to come"
        await stack.supervisor.wait_restarted("sender-sms-1", pid)
        test = await sending

        async def is_delivered() -> bool:
            (message,) = (await client.get_test_send(test.id)).messages
            return message.status == message_pb2.MESSAGE_STATUS_DELIVERED

        await eventually(is_delivered, 60, "the callback says what the answer could not")
        assert await texts(sandbox, to) == ["[Test] Hi {{name}}"]
