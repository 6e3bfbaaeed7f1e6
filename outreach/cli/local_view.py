"""What `outreach up` shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from outreach.cli.exit_codes import ExitCode
from outreach.cli.output import answers, print_json, remarks, say
from outreach.local.stack import LocalStack, StackOptions
from outreach.local.supervisor import EventKind, ProcessEvent


async def run_up(options: StackOptions, *, json: bool) -> ExitCode:
    """Start a stack, print where it is, and wait to be cancelled."""
    async with started_stack(options) as stack:
        if json:
            print_json(stack.describe(), line=True)
        else:
            print_addresses(stack)
            say("\nCtrl-C stops everything.", style="dim")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("\nStopping…", style="dim")
    say("Stopped; nothing was left behind." if options.data_dir is None else "Stopped.", "dim")
    return ExitCode.OK


@asynccontextmanager
async def started_stack(options: StackOptions) -> AsyncIterator[LocalStack]:
    """A running stack, its start shown on stderr, and every death and restart after it."""
    events = _Events()
    stack = LocalStack(replace(options, on_event=events.take))
    began = time.monotonic()
    with remarks.status("Starting PostgreSQL, NATS and the services…"):
        await stack.__aenter__()
    try:
        names = ", ".join(stack.process_names)
        say(f"Started in {time.monotonic() - began:.1f} s: {names}", style="dim")
        events.started = True
        yield stack
    finally:
        events.started = False
        await stack.__aexit__(None, None, None)


def print_addresses(stack: LocalStack) -> None:
    """Where everything is, and the exports that let the command line talk to it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for name, value in (
        ("gRPC API", "  ".join(stack.addresses)),
        ("exports", "  ".join(stack.export_addresses)),
        ("sandbox", stack.sandbox_url),
        ("emails sent", f"{stack.sandbox_url}/sandbox/emails"),
        ("webhooks", "  ".join([*stack.webhook_urls, *stack.email_urls])),
        ("PostgreSQL", _without_password(stack.postgres_dsn)),
        ("NATS", _without_password(stack.nats_url)),
        ("logs", str(stack.log_dir)),
    ):
        grid.add_row(name, Text(value))
    answers.print(grid)
    say("\nIn another terminal:", style="dim")
    for name, value in stack.exports.items():
        answers.print(f"export {name}={value}", soft_wrap=True)


class _Events:
    """Says which process died and which is back; the start has its own display."""

    def __init__(self) -> None:
        self.started = False

    def take(self, event: ProcessEvent) -> None:
        if not self.started:
            return
        if event.kind is EventKind.DIED:
            code = event.returncode
            say(f"{event.name} ended ({code}); starting it again.", style="yellow")
        elif event.kind is EventKind.HEALTHY:
            say(f"{event.name} is back.", style="green")


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{place}"
