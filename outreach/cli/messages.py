"""`outreach messages …`."""

from __future__ import annotations

from typing import Annotated

import typer

from outreach.cli import names, render, timelines
from outreach.cli.campaign import CampaignId
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session
from outreach.client import OutreachClient
from outreach.v1 import message_pb2

app = typer.Typer(no_args_is_help=True, help="A campaign's messages: one a contact.")


@app.command("list")
def list_(
    campaign_id: CampaignId,
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, as in failed; may be repeated.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only these failures; may be repeated.")
    ] = None,
    recipient: Annotated[str, typer.Option(help="Only this number or address.")] = "",
    recipient_contains: Annotated[
        str, typer.Option(help="Only recipients with this in them, as in @example.com.")
    ] = "",
    run: Annotated[int, typer.Option(min=0, help="Only what this run handled last.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 100,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """List messages by number. With --json: one line a message."""
    statuses = names.parse_message_statuses(status or [])
    reasons = names.parse_failure_reasons(reason or [])

    async def work(client: OutreachClient) -> list[message_pb2.Message]:
        found: list[message_pb2.Message] = []
        count = 0
        async for message in client.all_messages(
            campaign_id,
            statuses=statuses,
            failure_reasons=reasons,
            recipient=recipient,
            recipient_contains=recipient_contains,
            run=run,
        ):
            count += 1
            if json:
                print_json(as_data(message), line=True)
            else:
                found.append(message)
            if count == limit:
                break
        return found

    found = Session(address, api_key, json).call(work)
    if json:
        return
    if found:
        answers.print(render.messages_table(found, width=answers.width))
        if len(found) == limit:
            say(f"The first {limit}; --limit 0 for all.", style="dim")
    else:
        say("No messages.")


@app.command()
def show(
    campaign_id: CampaignId,
    number: Annotated[int, typer.Argument(min=1, help="The message's number in the campaign.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Show one message: every attempt, every change of its status, and what its recipient gets."""
    timeline = Session(address, api_key, json).call(
        lambda client: client.get_message_timeline(campaign_id, number)
    )
    if json:
        print_json(as_data(timeline))
    else:
        answers.print(timelines.timeline_view(timeline))
