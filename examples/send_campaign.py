"""One campaign from a CSV file to its last receipt, with the client library.

    outreach up                                   # in another terminal; prints two exports
    python examples/send_campaign.py examples/contacts.csv

Run it against the sandbox only: it confirms the contacts' consent and accepts the disclaimer.
"""
# ruff: noqa: INP001, T201

import asyncio
import os
import sys
from pathlib import Path

from outreach.client import CallError, OutreachClient
from outreach.v1.campaign_pb2 import (
    CAMPAIGN_STATUS_COMPLETE,
    CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
    CAMPAIGN_STATUS_FAILED,
    CampaignStatus,
    SmsContent,
)

BODY = "Hi {{first_name|there}}, we open in {{city}} on Friday. Reply STOP to opt out."
FINAL = {
    CAMPAIGN_STATUS_COMPLETE,
    CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
    CAMPAIGN_STATUS_FAILED,
}


async def send(client: OutreachClient, path: Path) -> None:
    """Create, upload, import, run, and follow to the end."""
    campaign = await client.create_campaign(name="Opening", sms=SmsContent(body=BODY))
    upload = await client.upload_contacts(campaign.id, path, consent_confirmed=True)
    result = await client.import_contacts(campaign.id, upload.id)
    for problem in result.problems:
        print(f"row {problem.row}: {problem.reason}")

    disclaimer = await client.get_disclaimer()
    await client.run_campaign(campaign.id, accepted_disclaimer_version=disclaimer.version)

    # Goes on by itself after a lost connection; ends when we leave the loop.
    async for response in client.watch_campaign(campaign.id):
        seen = response.snapshot if response.HasField("snapshot") else response.changes
        print(CampaignStatus.Name(seen.status), str(seen.counts).replace("\n", "  "))
        if seen.status in FINAL:
            break


async def main() -> int:
    """Read where the service is from the environment, as the command line does."""
    address = os.environ.get("OUTREACH_ADDRESS", "127.0.0.1:50051")
    try:
        async with OutreachClient(address, os.environ["OUTREACH_API_KEY"]) as client:
            await send(client, Path(sys.argv[1]))
    except CallError as error:
        print(f"{error.code.name} {error.reason}: {error.text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
