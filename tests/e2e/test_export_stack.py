"""Exports of a campaign that ran through the whole stack, by the client and by the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from outreach.local.stack import LocalStack, StackOptions
from outreach.v1.campaign_pb2 import SmsContent
from tests.campaign_history import END_SECONDS_MAX
from tests.cli_rig import Cli
from tests.export_rig import records_of, rows_of
from tests.waiting import eventually

pytestmark = pytest.mark.e2e


async def test_what_was_sent_is_what_is_exported(tmp_path: Path) -> None:
    contacts = "phone,name\n" + "".join(f"+1415555{n:04d},=Name{n}\n" for n in range(500))
    async with (
        LocalStack(StackOptions(durable=False)) as stack,
        stack.client() as client,
    ):
        assert stack.exports["OUTREACH_EXPORT_ADDRESS"] == stack.export_address
        campaign = await client.create_campaign(name="Spring", sms=SmsContent(body="Hi {{name}}"))
        uploaded = await client.upload_contacts(
            campaign.id, contacts.encode(), consent_confirmed=True
        )
        await client.import_contacts(campaign.id, uploaded.id)
        waiting = b"".join([chunk async for chunk in client.export_messages(campaign.id)])
        assert {row["status"] for row in records_of(waiting)} == {"WAITING"}
        disclaimer = await client.get_disclaimer()
        await client.run_campaign(campaign.id, accepted_disclaimer_version=disclaimer.version)

        async def all_delivered() -> bool:
            return (await client.get_campaign(campaign.id)).counts.delivered == 500

        await eventually(all_delivered, END_SECONDS_MAX, "every message to be delivered")
        path = tmp_path / "messages.csv"
        end = await client.export_messages(campaign.id).save(path)
        rows = records_of(path.read_bytes())
        assert end.rows == len(rows) == 500
        assert [row["number"] for row in rows] == [str(n) for n in range(1, 501)]
        listed = [message async for message in client.all_messages(campaign.id)]
        for row, message in zip(rows, listed, strict=True):
            assert row["recipient"] == f"'{message.recipient}"
            assert row["variable.name"] == f"'{message.variables['name']}"
            assert row["provider_message_id"] == message.provider_message_id
            assert (row["status"], row["attempt"]) == ("DELIVERED", str(message.attempt))
        cli = Cli(stack.address, stack.api_key)
        told = await cli("export", "campaigns", "--column", "delivered", env=stack.exports)
        assert rows_of(told.out.encode()) == [["delivered"], ["500"]]
