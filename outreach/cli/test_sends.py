"""`outreach campaign test-send` and `test-show`."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from outreach.cli import render
from outreach.cli.campaign import CampaignId, split_value
from outreach.cli.exit_codes import exit_code_of_test, not_handed_over
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.progress import progress
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session
from outreach.client import OutreachClient
from outreach.v1 import test_send_pb2


def send(
    campaign_id: CampaignId,
    to: Annotated[
        list[str], typer.Option("--to", help="A number or an address; 1 to 10 of them, each once.")
    ],
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Values for all; may be repeated."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check everything, send nothing.")] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Send it to a few recipients, marked as a test. Counts nowhere, changes nothing."""
    variables = dict(split_value(value) for value in values or [])

    async def work(client: OutreachClient) -> test_send_pb2.TestSend:
        return await client.create_test_send(campaign_id, to, values=variables, validate_only=check)

    with progress("Sending", quiet=json or check):
        test = Session(address, api_key, json).call(work)
    if not check:
        _show(test, json=json)
    if json:
        print_json(as_data(test))
    else:
        say("Checked; nothing was sent.")


def show(
    test_send_id: Annotated[str, typer.Argument(metavar="TEST", help="The test send's id.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Show what became of a test send; kept for 7 days."""
    _show(Session(address, api_key, json).call(lambda c: c.get_test_send(test_send_id)), json=json)


def _show(test: test_send_pb2.TestSend, *, json: bool) -> NoReturn:
    """Show it, and end the command with how it went."""
    if json:
        print_json(as_data(test))
    else:
        answers.print(render.test_send_table(test.messages, width=answers.width))
        waiting = render.quantity(not_handed_over(test), "message")
        if not_handed_over(test):
            say(f"{waiting} not handed to the provider yet, and may still go out.", style="yellow")
        if not test.final:
            say(f"Later: outreach campaign test-show {test.id}", style="dim")
    raise typer.Exit(exit_code_of_test(test))
