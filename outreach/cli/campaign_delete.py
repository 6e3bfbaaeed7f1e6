"""`outreach campaign delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from outreach.cli import names, render
from outreach.cli.campaign import CampaignId
from outreach.cli.output import print_json, say
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session, Yes


def delete(
    campaign_id: CampaignId,
    yes: Yes = False,
    etag: Annotated[str, typer.Option(help="Refuse when the campaign has another etag.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Delete it with its contacts, messages and attachments, for good; not while it runs."""
    session = Session(address, api_key, json)
    if not yes and session.interactive:
        campaign = session.call(lambda client: client.get_campaign(campaign_id))
        status = names.campaign_status(campaign.status)
        messages = render.quantity(campaign.counts.total, "message")
        say(f"{campaign.name}: {status}, {messages}. This cannot be undone.")
    session.confirm("Delete it?", yes=yes)
    session.call(lambda client: client.delete_campaign(campaign_id, etag=etag))
    if json:
        print_json({"id": campaign_id})
    else:
        say("Deleted.")
