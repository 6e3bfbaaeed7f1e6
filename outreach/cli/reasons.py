"""`outreach reasons`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from outreach.cli import names
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session
from outreach.v1 import failure_catalogue_pb2


def reasons(
    reason: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REASON]...", help="Only these, with the providers' codes."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Why messages fail, what to do about it, and whether a retry makes sense."""
    wanted = names.parse_failure_reasons(reason or [], "REASON")
    found = Session(address, api_key, json).call(lambda client: client.list_failure_reasons())
    infos = [info for info in found.reasons if not wanted or info.reason in wanted]
    if json:
        print_json({"reasons": [as_data(info) for info in infos]})
        return
    answers.print(_table(infos, codes=bool(wanted)))
    if not wanted:
        say("With a reason: the providers' codes that mean it.", style="dim")


def _table(infos: Iterable[failure_catalogue_pb2.FailureReasonInfo], *, codes: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("reason", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    table.add_column("what to do", overflow="fold")
    table.add_column("retry", no_wrap=True)
    if codes:
        table.add_column("codes", overflow="fold")
    for info in infos:
        retry = Text("yes", style="green") if info.retryable else Text("no", style="red")
        cells: list[str | Text] = [names.failure_reason(info.reason), Text(info.text)]
        cells += [Text(info.advice), retry]
        table.add_row(*cells, *([Text(_codes(info))] if codes else []))
    return table


def _codes(info: failure_catalogue_pb2.FailureReasonInfo) -> str:
    by_provider: dict[str, list[str]] = {}
    for each in info.provider_codes:
        by_provider.setdefault(each.provider, []).append(each.code)
    return "\n".join(f"{provider}: {', '.join(codes)}" for provider, codes in by_provider.items())
