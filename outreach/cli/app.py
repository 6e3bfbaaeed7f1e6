"""The `outreach` command: its groups, and the last net for errors."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version

import grpc
import stamina.instrumentation
import typer

from outreach.cli import campaign, contacts, local, messages
from outreach.cli.exit_codes import ExitCode
from outreach.cli.output import answers, print_json, say
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
app.add_typer(campaign.app, name="campaign")
app.add_typer(contacts.app, name="contacts")
app.add_typer(messages.app, name="messages")
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


def main() -> None:
    """The entry point of the `outreach` script."""
    # stamina would log each repeated call to stdout; the command tells how it ended instead.
    stamina.instrumentation.set_on_retry_hooks([])
    try:
        app(prog_name="outreach")
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough. Nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    except Exception as error:
        if os.environ.get("OUTREACH_DEBUG"):
            raise
        say(f"Error: something that was not foreseen: {type(error).__name__}: {error}", "red")
        say("  This is a fault of the program. OUTREACH_DEBUG=1 shows where it happened.")
        sys.exit(ExitCode.FAULT)
