"""`outreach suppressions …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from outreach.cli import names, render
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.progress import progress
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session, Yes
from outreach.client import OutreachClient
from outreach.v1 import suppression_pb2
from outreach.v1.channel_pb2 import CHANNEL_UNSPECIFIED

app = typer.Typer(
    no_args_is_help=True, help="Recipients that opted out, and the erasure of a person."
)

Recipient = Annotated[
    str, typer.Argument(metavar="RECIPIENT", help="A number in E.164, or an email address.")
]
OfChannel = Annotated[str, typer.Option("--channel", help="sms or email.")]


@app.command("list")
def list_(
    channel: Annotated[str, typer.Option(help="Only sms or email.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 100,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Who opted out, the latest first. With --json: one line each."""
    chosen = names.parse_channel(channel) if channel else CHANNEL_UNSPECIFIED
    session = Session(address, api_key, json)
    shown: list[suppression_pb2.Suppression] = []

    async def work(client: OutreachClient) -> None:
        count = 0
        async for suppression in client.all_suppressions(channel=chosen):
            if json:
                print_json(as_data(suppression), line=True)
            else:
                shown.append(suppression)
            count += 1
            if count == limit:
                return

    session.call(work)
    if json:
        return
    if shown:
        answers.print(render.suppressions_table(shown))
        if len(shown) == limit:
            say(f"The first {limit}; --limit 0 for all.", style="dim")
    else:
        say("Nobody opted out.")


@app.command()
def check(
    recipient: Recipient,
    channel: OfChannel,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Whether a recipient opted out; exit code 3 when not."""
    chosen = names.parse_channel(channel)
    found = Session(address, api_key, json).call(
        lambda client: client.get_suppression(chosen, recipient)
    )
    _show(found, json)


@app.command()
def add(
    recipient: Recipient,
    channel: OfChannel,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Never send to a recipient, also in a run that is under way."""
    chosen = names.parse_channel(channel)
    added = Session(address, api_key, json).call(
        lambda client: client.create_suppression(chosen, recipient)
    )
    _show(added, json)


@app.command()
def remove(
    recipient: Recipient,
    channel: OfChannel,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Allow sending to a recipient again. You have their consent."""
    chosen = names.parse_channel(channel)
    session = Session(address, api_key, json)
    session.confirm("Has the recipient consented to be sent to again?", yes=yes)
    session.call(lambda client: client.delete_suppression(chosen, recipient))
    if json:
        print_json({"channel": names.channel(chosen), "recipient": recipient})
    else:
        say("Removed: the recipient may be sent to again.")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv", exists=True, dir_okay=False, readable=True, help="A CSV file."
        ),
    ],
    channel: OfChannel,
    column: Annotated[
        str, typer.Option(help="The recipients' column; by default the one that looks like it.")
    ] = "",
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether the first row is a header."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Add all recipients of a file, all or nothing; rows that are none are skipped."""
    chosen = names.parse_channel(channel)
    session = Session(address, api_key, json)
    with progress("Uploading", quiet=json) as update:
        result = session.call(
            lambda client: client.import_suppressions(
                chosen,
                file,
                column=column,
                has_header=header,
                on_progress=lambda done, total: update(
                    done, total, f"{decimal(done)} of {decimal(total or 0)}"
                ),
            )
        )
    if json:
        print_json(as_data(result))
        return
    answers.print(
        f"{result.added:,} added of {render.quantity(result.rows, 'row')}"
        f" ({result.known:,} known, {result.invalid:,} invalid)"
    )


@app.command()
def erase(
    recipient: Recipient,
    channel: OfChannel,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Remove a person's data from every campaign, and keep only that they are not to be sent to."""
    chosen = names.parse_channel(channel)
    session = Session(address, api_key, json)
    session.confirm("Erase this person from every campaign? It cannot be undone.", yes=yes)
    result = session.call(lambda client: client.erase_person(chosen, recipient))
    if json:
        print_json(as_data(result))
        return
    answers.print(
        f"Erased: {render.quantity(result.contacts, 'contact')} of"
        f" {render.quantity(result.campaigns, 'campaign')};"
        f" {render.quantity(result.opted_out, 'message')} will not be sent,"
        f" {result.under_way:,} under way."
    )


def _show(found: suppression_pb2.Suppression, json: bool) -> None:
    if json:
        print_json(as_data(found))
    else:
        answers.print(render.suppressions_table([found]))
