"""`outreach contacts …`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.filesize import decimal

from outreach.cli import render
from outreach.cli.campaign import CampaignId
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.progress import Update, progress
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session, ask
from outreach.client import CallError, OutreachClient
from outreach.errors import Violation
from outreach.v1 import campaign_pb2, contact_pb2

app = typer.Typer(no_args_is_help=True, help="A campaign's contacts: one CSV file each.")

_CONSENT = (
    "You confirm that every person in this file has agreed to get messages like this one",
    "from you, by this channel, and has not withdrawn it. Without that, nothing is stored.",
)


@app.command()
def upload(
    campaign_id: CampaignId,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="A .csv file."
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ROLE",
            help="ROLE: destination, variable:NAME, or skip; may be repeated. Columns that are"
            " not named keep the role that the service suggests.",
        ),
    ] = None,
    consent: Annotated[
        bool,
        typer.Option("--consent", help="Every contact in the file has consented (asked else)."),
    ] = False,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep recipients that occur again.")
    ] = False,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="The first row names the columns. [detected]"),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Upload a CSV file and import it as the campaign's contacts."""
    session = Session(address, api_key, json)
    given = [parse_column(text) for text in column or []]
    if not consent:
        _ask_consent(session)
    with progress("Uploading", quiet=json) as update:
        uploaded = session.call(
            lambda client: client.upload_contacts(
                campaign_id,
                file,
                consent_confirmed=True,
                has_header=header,
                on_progress=lambda done, total: update(
                    done, total, f"{decimal(done)} of {decimal(total or 0)}"
                ),
            )
        )
    _check_names(session, uploaded.columns, given)
    columns = choose_columns(uploaded.columns, given)
    if not json:
        answers.print(render.upload_view(uploaded, columns[: len(uploaded.columns)]))
    with progress("Importing", quiet=json) as update:
        result = session.call(
            lambda client: client.import_contacts(
                campaign_id,
                uploaded.id,
                mapping=contact_pb2.ContactMapping(columns=columns),
                keep_duplicates=keep_duplicates,
                has_header=header,
                on_progress=lambda told: _show_import(update, told),
            )
        )
    if json:
        print_json({"upload": as_data(uploaded), **as_data(result)})
    else:
        _print_result(campaign_id, result)


@app.command()
def problems(
    campaign_id: CampaignId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help="Write all of them to this CSV file."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Rows of the latest import that were skipped, and why."""
    session = Session(address, api_key, json)
    if output is not None:
        size_bytes = session.call(lambda client: _download(client, campaign_id, output))
        if json:
            print_json({"path": str(output), "size_bytes": size_bytes})
        else:
            answers.print(f"{output}: {decimal(size_bytes)}")
        return

    async def work(client: OutreachClient) -> list[contact_pb2.ContactProblem]:
        found = []
        async for problem in client.all_contact_problems(campaign_id):
            found.append(problem)
            if len(found) == limit:
                break
        return found

    found = session.call(work)
    if json:
        print_json({"problems": [as_data(problem) for problem in found]})
    elif found:
        answers.print(render.problems_table(found))
    else:
        say("No problems.")


def parse_column(text: str) -> campaign_pb2.ContactColumn:
    """`phone=destination`, `First name=variable:name`, `notes=skip`; else a usage error."""
    name, equals, role = text.rpartition("=")
    kind, _, variable = role.partition(":")
    if equals and name:
        if role == "destination":
            return campaign_pb2.ContactColumn(name=name, role=campaign_pb2.COLUMN_ROLE_DESTINATION)
        if role == "skip":
            return campaign_pb2.ContactColumn(
                name=name, role=campaign_pb2.COLUMN_ROLE_DO_NOT_IMPORT
            )
        if kind == "variable" and variable:
            return campaign_pb2.ContactColumn(
                name=name,
                role=campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE,
                variable_name=variable,
            )
    raise typer.BadParameter(
        f"{text!r} is not NAME=destination, NAME=variable:VARIABLE or NAME=skip",
        param_hint="--column",
    )


def choose_columns(
    found: Sequence[contact_pb2.UploadColumn], given: Sequence[campaign_pb2.ContactColumn]
) -> list[campaign_pb2.ContactColumn]:
    """The mapping to import with: what was given, and for the other columns the suggestion.

    A suggested destination gives way to one that was given. Given columns that the file does not
    have stay in the mapping: the service refuses them by name.
    """
    by_name = {column.name: column for column in given}
    destination_given = any(column.role == campaign_pb2.COLUMN_ROLE_DESTINATION for column in given)
    columns = []
    for column in found:
        role = column.suggested_role
        if destination_given and role == campaign_pb2.COLUMN_ROLE_DESTINATION:
            role = campaign_pb2.COLUMN_ROLE_DO_NOT_IMPORT
        suggestion = campaign_pb2.ContactColumn(name=column.name, role=role)
        if role == campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE:
            suggestion.variable_name = column.suggested_variable_name
        columns.append(by_name.pop(column.name, suggestion))
    return [*columns, *by_name.values()]


def _check_names(
    session: Session,
    found: Sequence[contact_pb2.UploadColumn],
    given: Sequence[campaign_pb2.ContactColumn],
) -> None:
    """The service would refuse them too, but by their place in a list that nobody here wrote."""
    names = [column.name for column in found]
    unknown = [column.name for column in given if column.name not in names]
    if unknown:
        has = ", ".join(f'"{name}"' for name in names)
        texts = [f'The file has no column "{name}". Its columns: {has}.' for name in unknown]
        violations = [Violation("--column", "MAPPING_UNKNOWN_COLUMN", text) for text in texts]
        session.fail(
            CallError(
                "MAPPING_UNKNOWN_COLUMN",
                texts[0],
                code=grpc.StatusCode.INVALID_ARGUMENT,
                violations=violations,
            )
        )


def _ask_consent(session: Session) -> None:
    if session.interactive:
        for line in _CONSENT:
            say(line)
        if ask("Do you confirm this?"):
            return
    session.fail(
        CallError(
            "CONSENT_NOT_CONFIRMED",
            "Consent was not confirmed, so nothing was uploaded.",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )
    )


def _show_import(update: Update, told: contact_pb2.ImportProgress) -> None:
    update(
        told.bytes_read,
        told.bytes_total,
        f"{render.quantity(told.rows, 'row')}: {told.imported:,} imported,"
        f" {told.invalid:,} invalid,"
        f" {render.quantity(told.duplicates, 'duplicate')}",
    )


def _print_result(campaign_id: str, result: contact_pb2.ImportResult) -> None:
    campaign = result.campaign
    answers.print(render.contacts_line(campaign.contacts), style="bold")
    if result.problems:
        answers.print(render.problems_table(result.problems))
        shown = len(result.problems)
        if campaign.contacts.invalid > shown:
            say(f"The first {shown} of {campaign.contacts.invalid:,}.", style="dim")
            say(f"All: outreach contacts problems {campaign_id} -o FILE.csv", style="dim")
    for problem in campaign.template_problems:
        say(f"! {problem.description} ({problem.reason})", style="yellow")
    if campaign.template_problems:
        say(f"\nNext: outreach campaign update {campaign_id} --body TEXT", style="dim")
    if campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY:
        say(
            f"\nNext: outreach campaign estimate {campaign_id}, then campaign run {campaign_id}",
            style="dim",
        )


async def _download(client: OutreachClient, campaign_id: str, path: Path) -> int:
    size_bytes = 0
    with path.open("wb") as file:
        async for chunk in client.download_contact_problems(campaign_id):
            size_bytes += file.write(chunk)
    return size_bytes
