"""`outreach attachments …`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from outreach.cli import render
from outreach.cli.campaign import CampaignId
from outreach.cli.exit_codes import exit_code_of_error
from outreach.cli.output import answers, as_data, error_data, print_error, print_json, say
from outreach.cli.progress import Update, progress
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session
from outreach.client import CallError, OutreachClient
from outreach.v1 import attachment_pb2

app = typer.Typer(
    no_args_is_help=True, help="Files that every recipient of an email campaign gets."
)


@app.command()
def add(
    campaign_id: CampaignId,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="In this order."
        ),
    ],
    content_type: Annotated[
        str,
        typer.Option(
            "--type", metavar="TYPE", help="A media type; by default what goes with the name."
        ),
    ] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Add files, one after the other, until one of them is refused; before the first run only."""
    for file in files:
        if (
            not file.is_file()
        ):  # it is read twice, for its checksum and to be sent; a device never ends
            raise typer.BadParameter(f"{file} is no regular file", param_hint="FILE")
    session = Session(address, api_key, json)
    added: list[attachment_pb2.Attachment] = []
    with progress("Uploading", quiet=json) as update:
        refusal = session.call(
            lambda client: _add_all(client, campaign_id, files, content_type, added, update)
        )
    if json:
        data = {"attachments": [as_data(attachment) for attachment in added]}
        print_json(data if refusal is None else {**error_data(refusal), **data})
    elif added:
        answers.print(render.attachments_table(added))
    if refusal is not None:
        say(f"{files[len(added)].name} was not added.", style="bold")
        print_error(refusal)
        raise typer.Exit(exit_code_of_error(refusal))


@app.command("list")
def list_(
    campaign_id: CampaignId,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """The campaign's files, and how much room they take."""
    session = Session(address, api_key, json)
    found = session.call(lambda client: client.list_attachments(campaign_id))
    if json:
        print_json(as_data(found))
        return
    if found.attachments:
        answers.print(render.attachments_table(found.attachments))
    count = render.quantity(len(found.attachments), "attachment")
    say(f"{count}, {decimal(found.size_bytes)} of {decimal(found.size_bytes_max)}.")


@app.command()
def remove(
    campaign_id: CampaignId,
    attachment_id: Annotated[str, typer.Argument(metavar="ATTACHMENT", help="Its id.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Take a file off; before the first run only."""
    session = Session(address, api_key, json)
    session.call(lambda client: client.delete_attachment(campaign_id, attachment_id))
    if json:
        print_json({"id": attachment_id})
    else:
        say("Removed.")


async def _add_all(
    client: OutreachClient,
    campaign_id: str,
    files: Sequence[Path],
    content_type: str,
    added: list[attachment_pb2.Attachment],
    update: Update,
) -> CallError | None:
    """Fill `added`; gives the refusal that ended it, if there was one."""
    for file in files:

        def show(done: int, total: int | None, file: Path = file) -> None:
            update(done, total, f"{file.name}, {decimal(done)} of {decimal(total or 0)}")

        try:
            added.append(
                await client.upload_attachment(
                    campaign_id, file, content_type=content_type, on_progress=show
                )
            )
        except CallError as refusal:
            return refusal
    return None
