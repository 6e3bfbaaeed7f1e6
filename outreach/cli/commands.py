"""The `outreach` command: its groups."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version

import grpc
import typer

from outreach.cli import (
    attachments,
    campaign,
    campaign_delete,
    contacts,
    exports,
    local,
    messages,
    reasons,
    runs,
    suppressions,
    test_sends,
    watch_all,
)
from outreach.cli.output import answers, print_json
from outreach.cli.session import Json

_EPILOG = (
    "Exit codes: 0 ok · 1 refused by a rule · 2 wrong usage or input · 3 not found ·"
    " 4 not permitted · 5 unavailable · 6 campaign ended with errors · 7 fault · 130 Ctrl-C"
)

app = typer.Typer(
    name="outreach",
    help="Bulk SMS and email campaigns.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
campaign.app.command()(runs.stop)
campaign.app.command()(runs.retry)
campaign.app.command("delete")(campaign_delete.delete)
campaign.app.command("watch-all")(watch_all.watch_all)
campaign.app.command("test-send")(test_sends.send)
campaign.app.command("test-show")(test_sends.show)
app.add_typer(campaign.app, name="campaign")
app.add_typer(contacts.app, name="contacts")
app.add_typer(attachments.app, name="attachments")
app.add_typer(messages.app, name="messages")
app.add_typer(exports.app, name="export")
app.add_typer(suppressions.app, name="suppressions")
app.command()(reasons.reasons)
app.command()(local.up)
app.command()(local.demo)


@app.command()
def version(json: Json = False) -> None:
    """The versions of this program and of what it stands on."""
    versions = {
        "outreach": _own_version(),
        "python": platform.python_version(),
        "grpc": grpc.__version__,
    }
    if json:
        print_json(versions)
    else:
        answers.print(" ".join(f"{name} {number}" for name, number in versions.items()))


def _own_version() -> str:
    try:
        return distribution_version("outreach")
    except PackageNotFoundError:
        return "from a checkout"
