"""`outreach campaign watch-all`: every campaign, live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from outreach.cli import names, render
from outreach.cli.output import as_data, print_json, remarks, say
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session
from outreach.client import CallError, OutreachClient
from outreach.v1 import campaign_pb2, watch_pb2
from outreach.v1.channel_pb2 import CHANNEL_UNSPECIFIED

#: Under the table's head and the remarks a terminal of usual height has room for so many.
_SHOWN_MAX = 20


class LiveCampaigns:
    """What a watch told so far, newest first."""

    def __init__(self) -> None:
        self.campaigns: dict[str, campaign_pb2.Campaign] = {}
        self.reconnects = 0

    def take(self, response: watch_pb2.WatchCampaignsResponse) -> list[str]:
        """Take in one response; a line for each campaign of which it tells."""
        match response.WhichOneof("event"):
            case "snapshot":
                self.campaigns = {each.id: each for each in response.snapshot.campaigns}
                return [_line(each) for each in response.snapshot.campaigns]
            case "campaign":
                self.campaigns[response.campaign.id] = response.campaign
                return [_line(response.campaign)]
            case "gone":
                self.campaigns.pop(response.gone.id, None)
                now = names.campaign_status(response.gone.status) if response.gone.status else ""
                return [f"{response.gone.id}  {now or 'deleted'} (not shown any more)"]
        return []

    def __rich__(self) -> RenderableType:
        return Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        newest = sorted(self.campaigns.values(), key=lambda each: each.id, reverse=True)
        if newest:
            yield render.campaigns_table(newest[:_SHOWN_MAX], width=remarks.width)
        else:
            yield Text("No campaigns.", style="dim")
        if len(newest) > _SHOWN_MAX:
            yield Text(f"and {len(newest) - _SHOWN_MAX:,} older ones", style="dim")
        if self.reconnects:
            yield Text(f"connections lost and found: {self.reconnects}", style="yellow")


def watch_all(
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, as in in-progress; may be repeated.")
    ] = None,
    channel: Annotated[str, typer.Option(help="Only sms or email.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Follow all campaigns live, until Ctrl-C. With --json: one line a response."""
    statuses = names.parse_campaign_statuses(status or [])
    chosen = names.parse_channel(channel) if channel else CHANNEL_UNSPECIFIED

    async def work(client: OutreachClient) -> None:
        live = LiveCampaigns()
        in_place = remarks.is_terminal and not json

        def on_reconnect(error: CallError) -> None:
            live.reconnects += 1
            if not in_place:
                say(f"Connection lost ({error.reason}); a new list follows.")

        responses = client.watch_campaigns(
            channel=chosen, statuses=statuses, on_reconnect=on_reconnect
        )
        with Live(live, console=remarks, refresh_per_second=4) if in_place else nullcontext():
            async for response in responses:
                lines = live.take(response)
                if json:
                    print_json(as_data(response), line=True)
                elif not in_place:
                    for line in lines:
                        say(line)

    Session(address, api_key, json).call(work)


def _line(campaign: campaign_pb2.Campaign) -> str:
    counts = campaign.counts
    numbers = [
        f"{render.label(name)} {number:,}"
        for name in render.COUNT_STYLES
        if (number := getattr(counts, name))
    ]
    status = names.campaign_status(campaign.status)
    return f"{campaign.id}  {status}  {'  '.join(numbers)}  {campaign.name}"
