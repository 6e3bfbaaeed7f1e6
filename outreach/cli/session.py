"""One command's connection: its options, its event loop, and what its errors become."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, NoReturn, TypeVar

import grpc
import typer

from outreach.cli.exit_codes import ExitCode, exit_code_of_error
from outreach.cli.output import error_data, print_error, print_json, remarks, say
from outreach.client import CallError, OutreachClient, Timeouts

DEFAULT_ADDRESS = "127.0.0.1:50051"
_PANEL = "Connection and output"
# Somebody waits at the terminal: a service that can't be reached is told soon.
_TIMEOUTS = Timeouts(retry_seconds_max=5.0)

Address = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="OUTREACH_ADDRESS",
        metavar="HOST:PORT",
        help="The campaign service; https://HOST:PORT for TLS.",
        rich_help_panel=_PANEL,
    ),
]
ExportAddress = Annotated[
    str,
    typer.Option(
        "--export-address",
        envvar="OUTREACH_EXPORT_ADDRESS",
        metavar="HOST:PORT",
        help="The export service. [port 50053 of the same host; with https:// the same address]",
        rich_help_panel=_PANEL,
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar="OUTREACH_API_KEY",
        metavar="KEY",
        help="The organisation's API key.",
        show_envvar=True,
        rich_help_panel=_PANEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="JSON on stdout, for programs.", rich_help_panel=_PANEL),
]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="For scripts: do not ask, it is meant.")]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Session:
    """What a command that talks to the service was given."""

    address: str
    api_key: str
    json: bool
    #: Empty: where it is by default.
    export_address: str = ""

    def call(self, work: Callable[[OutreachClient], Awaitable[Value]]) -> Value:
        """Run `work` with a client; a refusal is shown and ends the command with its exit code."""
        try:
            if not self.api_key:
                raise CallError(
                    "CREDENTIAL_MISSING",
                    "There is no API key.",
                    code=grpc.StatusCode.UNAUTHENTICATED,
                )
            if not (self.api_key.isascii() and self.api_key.isprintable()):
                # gRPC would fail on the header with a fault of its own.
                raise CallError(
                    "CREDENTIAL_INVALID",
                    "The API key has a line break or another character that no key has.",
                    code=grpc.StatusCode.UNAUTHENTICATED,
                )
            return asyncio.run(self._connected(work))
        except CallError as error:
            self.fail(error)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None

    def fail(self, error: CallError) -> NoReturn:
        """Show a refusal, for people on stderr and with --json on stdout, and end the command."""
        if self.json:
            print_json(error_data(error))
        print_error(error)
        raise typer.Exit(exit_code_of_error(error)) from None

    def confirm(self, question: str, *, yes: bool) -> None:
        """What can't be undone is asked for, unless `yes` says it; without a terminal it is refused."""
        if yes or (self.interactive and ask(question)):
            return
        self.fail(
            CallError(
                "NOT_CONFIRMED",
                "It was not confirmed, so nothing was done.",
                code=grpc.StatusCode.FAILED_PRECONDITION,
            )
        )

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to be asked."""
        return not self.json and sys.stdin.isatty() and remarks.is_terminal

    async def _connected(self, work: Callable[[OutreachClient], Awaitable[Value]]) -> Value:
        async with OutreachClient(
            self.address,
            self.api_key,
            timeouts=_TIMEOUTS,
            export_address=self.export_address or None,
        ) as client:
            return await work(client)


def ask(question: str) -> bool:
    """A yes or no from the person at the terminal; only `y` and `yes` mean yes."""
    say("")
    remarks.print(f"{question} [y/N] ", end="", style="bold")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
