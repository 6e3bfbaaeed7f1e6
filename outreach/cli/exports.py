"""`outreach export …`: CSV files."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.filesize import decimal

from outreach.cli import names, render
from outreach.cli.campaign import CampaignId
from outreach.cli.output import print_json, say
from outreach.cli.progress import Update, progress
from outreach.cli.session import (
    DEFAULT_ADDRESS,
    Address,
    ApiKey,
    ExportAddress,
    Json,
    Session,
)
from outreach.client import OutreachClient
from outreach.client.exports import CsvExport, packed
from outreach.v1 import export_pb2
from outreach.v1.channel_pb2 import CHANNEL_UNSPECIFIED

app = typer.Typer(no_args_is_help=True, help="CSV files of messages and of campaigns.")

_STDOUT = "-"

Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE", help="The file to write; -: stdout."),
]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME", help="Only these, in this order. [all]"),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw", help="Cells as they are, also those that a spreadsheet takes for formulas."
    ),
]
Gzip = Annotated[bool, typer.Option("--gzip", help="Compress what is written.")]


@app.command("messages")
def messages_(
    campaign_id: CampaignId,
    output: Output = _STDOUT,
    column: Column = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, as in failed; may be repeated.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only these failures; may be repeated.")
    ] = None,
    recipient: Annotated[str, typer.Option(help="Only this number or address.")] = "",
    recipient_contains: Annotated[
        str, typer.Option(help="Only recipients with this in them; 3 characters or more.")
    ] = "",
    run: Annotated[int, typer.Option(min=0, help="Only what this run handled last.")] = 0,
    raw: Raw = False,
    compress: Gzip = False,
    address: Address = DEFAULT_ADDRESS,
    export_address: ExportAddress = "",
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """One campaign's messages, by number; also while it runs."""
    statuses = names.parse_message_statuses(status or [])
    reasons = names.parse_failure_reasons(reason or [])

    def export(client: OutreachClient) -> CsvExport:
        return client.export_messages(
            campaign_id,
            columns=column or [],
            statuses=statuses,
            failure_reasons=reasons,
            recipient=recipient,
            recipient_contains=recipient_contains,
            run=run,
            raw=raw,
        )

    _write(Session(address, api_key, json, export_address), export, output, compress=compress)


@app.command()
def campaigns(
    output: Output = _STDOUT,
    column: Column = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, as in complete; may be repeated.")
    ] = None,
    channel: Annotated[str, typer.Option(help="sms or email.")] = "",
    name: Annotated[str, typer.Option(help="Only names with this in them.")] = "",
    raw: Raw = False,
    compress: Gzip = False,
    address: Address = DEFAULT_ADDRESS,
    export_address: ExportAddress = "",
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """The organisation's campaigns, newest first."""
    statuses = names.parse_campaign_statuses(status or [])
    on = names.parse_channel(channel) if channel else CHANNEL_UNSPECIFIED

    def export(client: OutreachClient) -> CsvExport:
        return client.export_campaigns(
            columns=column or [], channel=on, statuses=statuses, name_contains=name, raw=raw
        )

    _write(Session(address, api_key, json, export_address), export, output, compress=compress)


def _write(
    session: Session,
    export: Callable[[OutreachClient], CsvExport],
    output: str,
    *,
    compress: bool,
) -> None:
    if output == _STDOUT and session.json:
        raise typer.BadParameter("with --json the CSV needs a FILE", param_hint="--output")
    try:
        with progress("Exporting", quiet=session.json) as update:
            end = session.call(
                lambda client: _exported(export(client), output, update, compress=compress)
            )
    except BrokenPipeError:
        raise
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from error
    if session.json:
        print_json(
            {
                "path": output,
                "rows": end.rows,
                "size_bytes": end.size_bytes,
                "sha256": end.sha256,
            }
        )
    else:
        say(f"{render.quantity(end.rows, 'row')}, {decimal(end.size_bytes)}, sha256 {end.sha256}")


async def _exported(
    export: CsvExport, output: str, update: Update, *, compress: bool
) -> export_pb2.ExportEnd:
    def show(rows: int, rows_max: int, size_bytes: int) -> None:
        update(rows, rows_max or None, f"{render.quantity(rows, 'row')}, {decimal(size_bytes)}")

    if output != _STDOUT:
        return await export.save(Path(output), compress=compress, on_progress=show)
    with _stdout(compress=compress) as out:
        async for chunk in export:
            await asyncio.to_thread(out.write, chunk)
            export.tell(show)
    assert export.end is not None
    return export.end


@contextlib.contextmanager
def _stdout(*, compress: bool) -> Iterator[IO[bytes]]:
    if not compress:
        yield sys.stdout.buffer
    else:
        # Not closed when the export breaks off: its end would make what there is look whole.
        out = packed(sys.stdout.buffer)
        yield out
        out.close()
    sys.stdout.buffer.flush()
