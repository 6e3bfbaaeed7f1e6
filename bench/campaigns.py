"""What the sending benchmarks share: a stack without limits of its own, campaigns, and how long a run took."""

import asyncio
import time

from outreach.client import OutreachClient
from outreach.local.example_email import SENDER_ADDRESS
from outreach.local.stack import StackOptions
from outreach.v1 import campaign_pb2, channel_pb2, contact_pb2


def stack_options(provider_url: str) -> StackOptions:
    """No pace, durable, and the sink in the providers' place."""
    return StackOptions(
        segments_per_second_max=1_000_000,
        settings={
            "OUTREACH_TWILIO_API_URL": provider_url,
            "OUTREACH_SENDGRID_API_URL": provider_url,
            "OUTREACH_ASSUMED_DELIVERED_AFTER_SECONDS": "2",
            "OUTREACH_SENDER_SMS_CONCURRENCY_START": "64",
            "OUTREACH_SENDER_SMS_CONCURRENCY_MAX": "64",
        },
    )


async def imported_campaign(client: OutreachClient, contacts: int) -> campaign_pb2.Campaign:
    """An SMS campaign, READY, with that many contacts."""
    campaign = await client.create_campaign(
        name=f"Benchmark of {contacts}",
        channel=channel_pb2.CHANNEL_SMS,
        sms=campaign_pb2.SmsContent(body="Hello {{name}}, your parcel waits."),
    )
    rows = "".join(f"+1500{number:07d},Name{number}\n" for number in range(contacts))
    return await _with_contacts(client, campaign, "phone,name\n" + rows)


async def imported_email_campaign(
    client: OutreachClient, contacts: int, html: str
) -> campaign_pb2.Campaign:
    """An email campaign, READY, with that many contacts and their `name`, `city` and `day`."""
    content = campaign_pb2.EmailContent(subject="News for {{name}}", html=html)
    getattr(content, "from").address = SENDER_ADDRESS
    campaign = await client.create_campaign(
        name=f"Benchmark of {contacts}", channel=channel_pb2.CHANNEL_EMAIL, email=content
    )
    rows = "".join(
        f"person.{number}@example.org,Name{number},City{number % 50},Day{number % 28}\n"
        for number in range(contacts)
    )
    return await _with_contacts(client, campaign, "email,name,city,day\n" + rows)


async def _with_contacts(
    client: OutreachClient, campaign: campaign_pb2.Campaign, csv: str
) -> campaign_pb2.Campaign:
    upload = await client.upload_contacts(
        campaign.id, csv.encode(), consent_confirmed=True, file_name="bench.csv"
    )
    result = await client.import_contacts(campaign.id, upload.id, mapping=_mapping(csv))
    return result.campaign


def _mapping(csv: str) -> contact_pb2.ContactMapping:
    destination, *variables = csv.partition("\n")[0].split(",")
    columns = [
        campaign_pb2.ContactColumn(name=destination, role=campaign_pb2.COLUMN_ROLE_DESTINATION)
    ]
    columns += [
        campaign_pb2.ContactColumn(
            name=name, role=campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE, variable_name=name
        )
        for name in variables
    ]
    return contact_pb2.ContactMapping(columns=columns)


async def run_to_handed_over(
    client: OutreachClient, campaign: campaign_pb2.Campaign, *, to_the_end: bool = True
) -> float:
    """Run it; messages a second from the run to the commit that recorded the last acceptance.

    `to_the_end`: then wait for its end, so that the channel is free.
    """
    disclaimer = await client.get_disclaimer()
    began = time.perf_counter()
    await client.run_campaign(campaign.id, accepted_disclaimer_version=disclaimer.version)
    handed_over_seconds = 0.0
    async for response in client.watch_campaign(campaign.id):
        counts = (response.snapshot if response.HasField("snapshot") else response.changes).counts
        if (
            not handed_over_seconds
            and counts.total
            and not (counts.waiting + counts.queued + counts.sending)
        ):
            handed_over_seconds = time.perf_counter() - began
            if not to_the_end:
                break
        if counts.total and not (counts.queued + counts.sending + counts.sent + counts.waiting):
            break
    await asyncio.sleep(0)
    return counts.total / handed_over_seconds
