"""`outreach up` and `outreach demo`: the whole system on this machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from outreach.cli.exit_codes import ExitCode, exit_code_of_error
from outreach.cli.output import error_data, fault_data, print_error, print_json, say
from outreach.cli.session import Json
from outreach.client import CallError

Main = Callable[[], Awaitable[ExitCode]]


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Keeps data, secrets and ports; else all is gone at the end."
        ),
    ] = None,
    campaigns: Annotated[
        int, typer.Option(min=1, max=8, help="Processes of the campaign service.")
    ] = 1,
    senders: Annotated[
        int, typer.Option(min=1, max=8, help="Processes of each sender, SMS and email.")
    ] = 1,
    port: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PORT",
            help="A port for campaign-1, sandbox, export-1, sender-sms-1, …; else free ones.",
        ),
    ] = None,
    pace: Annotated[
        int, typer.Option(min=1, help="Segments a second that the example organisation may send.")
    ] = 2_000,
    json: Json = False,
) -> None:
    """Start everything on this machine, until Ctrl-C.

    PostgreSQL and NATS come from wheels; OUTREACH_POSTGRES_DSN and OUTREACH_NATS_URL, when set,
    are used instead. Messages go to the sandbox: nobody gets anything.
    """
    from outreach.cli.local_view import run_up
    from outreach.local.stack import StackOptions

    options = StackOptions(
        data_dir=data_dir,
        campaign_replicas=campaigns,
        sender_replicas=senders,
        email_sender_replicas=senders,
        ports=dict(_port(text) for text in port or []),
        segments_per_second_max=pace,
    )
    run_until_signal(lambda: run_up(options, json=json), json=json)


def demo(
    contacts: Annotated[
        int, typer.Option(min=1, max=290_000, help="Valid contacts in each example file.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Makes another file, and other fates.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")
    ] = False,
    pace: Annotated[
        int | None,
        typer.Option(min=1, help="Segments, and emails, a second. [250, so that there is a show]"),
    ] = None,
    json: Json = False,
) -> None:
    """Send an SMS and an email campaign to the sandbox and account for every message.

    Exit code 0 only when the counts add up and equal the sandbox's ledgers.
    """
    from outreach.cli.demo_view import run_demo

    run_until_signal(
        lambda: run_demo(contacts=contacts, seed=seed, keep=keep, pace=pace, json=json), json=json
    )


def run_until_signal(main: Main, *, json: bool) -> None:
    """Run `main` and end the command with its exit code; SIGINT and SIGTERM cancel it.

    A cancelled `main` stops what it started; when it was asked to stop it decides the exit code
    itself, or leaves it at 130.
    """
    try:
        code = asyncio.run(_cancelled_by_signals(main))
    except asyncio.CancelledError:
        code = ExitCode.INTERRUPTED
    except CallError as error:
        if json:
            print_json(error_data(error))
        print_error(error)
        code = exit_code_of_error(error)
    except Exception as error:
        if not _explains_itself(error):
            raise
        if json:
            print_json(fault_data(type(error).__name__, str(error)))
        say(f"Error: {error}", style="red")
        code = ExitCode.FAULT
    raise typer.Exit(code)


async def _cancelled_by_signals(main: Main) -> ExitCode:
    task = asyncio.ensure_future(main())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


def _explains_itself(error: Exception) -> bool:
    """Whether the error's text is for people: a part of the stack that can't start."""
    from outreach.local.embedded import EmbeddedServerError
    from outreach.local.supervisor import StartFailed

    return isinstance(error, StartFailed | EmbeddedServerError)


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or not 0 < int(number) < 65_536:
        raise typer.BadParameter(f"{text!r} is not NAME=PORT", param_hint="--port")
    return name, int(number)
