"""What `outreach demo` shows: each step as it happens, then the accounts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rich import box
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from outreach.cli import render
from outreach.cli.exit_codes import ExitCode
from outreach.cli.live import follow_together
from outreach.cli.local_view import print_addresses, started_stack
from outreach.cli.output import answers, as_data, print_json, remarks, say
from outreach.cli.progress import progress
from outreach.client import OutreachClient
from outreach.local.accounting import Accounts
from outreach.local.demo import (
    EMAILS_PER_SECOND_MAX,
    KNOBS,
    SEGMENTS_PER_SECOND_MAX,
    SHORT_TIMERS,
    DemoCampaign,
    EmailDemo,
    SmsDemo,
    short_timer_settings,
)
from outreach.local.sandbox_client import SandboxClient
from outreach.local.stack import LocalStack, StackOptions


async def run_demo(
    *, contacts: int, seed: int, keep: bool, pace: int | None, json: bool
) -> ExitCode:
    """The whole demo; OK only when every message is accounted for."""
    options = StackOptions(
        settings=short_timer_settings(),
        knobs=KNOBS,
        seed=f"demo-{seed}",
        segments_per_second_max=pace or SEGMENTS_PER_SECOND_MAX,
        emails_per_second_max=pace or EMAILS_PER_SECOND_MAX,
    )
    began = time.monotonic()
    async with started_stack(options) as stack, stack.client() as client:
        async with stack.sandbox_client() as sandbox:
            view = _View(json=json)
            exact = await view.show(
                SmsDemo(contacts, seed), EmailDemo(contacts, seed), client, sandbox
            )
        if json:
            seconds = {"exact": exact, "seconds": round(time.monotonic() - began, 1)}
            print_json({**view.data, **seconds})
        if keep:
            await _keep(stack, json=json)
        else:
            _what_next(contacts)
    return ExitCode.OK if exact else ExitCode.FAULT


class _View:
    """Shows the steps, or with `json` gathers them in `data` and shows nothing on stdout."""

    def __init__(self, *, json: bool) -> None:
        #: What each campaign's steps gave, by `sms` and `email`.
        self.data: dict[str, dict[str, Any]] = {}
        self._json = json

    async def show(
        self, sms: SmsDemo, email: EmailDemo, client: OutreachClient, sandbox: SandboxClient
    ) -> bool:
        """Take every step; whether all accounts are exact."""
        self._introduce()
        self._title("SMS")
        await sms.send_stop_replies(sandbox)
        stopped = render.quantity(len(sms.stopped), "recipient")
        self._step("Replies", f"{stopped} answered STOP to an earlier message")
        await self._prepare("sms", sms, client)
        self._title("Email")
        await self._prepare("email", email, client)
        self._title("Both at once")
        await sms.run(client)
        await email.run(client)
        self._step("Run", "every message on its way")
        ids = {"SMS": sms.campaign.id, "Email": email.campaign.id}
        await follow_together(client, ids, quiet=self._json)
        exact = [
            await self._account(name, demo, client, sandbox)
            for name, demo in (("sms", sms), ("email", email))
        ]
        self._tell_verdict(exact=all(exact))
        return all(exact)

    async def _prepare(self, name: str, demo: DemoCampaign, client: OutreachClient) -> None:
        """Everything up to READY."""
        await demo.create(client)
        self._step("Create", f"campaign {demo.campaign.id}")
        await self._bring_contacts(demo, client)
        self.data[name] = await self._look_ahead(demo, client)

    async def _bring_contacts(self, demo: DemoCampaign, client: OutreachClient) -> None:
        with progress("Uploading", quiet=self._json) as update:
            upload = await demo.upload(client, lambda done, total: update(done, total, ""))
        self._step("Upload", f"{demo.file_name}, {upload.size_bytes:,} bytes")
        self._print(render.upload_view(upload, demo.columns(upload)))
        with progress("Importing", quiet=self._json) as update:
            result = await demo.import_contacts(
                client,
                upload,
                lambda told: update(
                    told.bytes_read, told.bytes_total, render.quantity(told.rows, "row")
                ),
            )
        self._step("Import", render.contacts_line(result.campaign.contacts))
        if result.problems:
            self._print(render.problems_table(result.problems[:5]))

    async def _look_ahead(self, demo: DemoCampaign, client: OutreachClient) -> dict[str, Any]:
        with progress("Estimating", quiet=self._json):
            estimate = await demo.estimate(client)
        self._step("Estimate", "what a run would do")
        self._print(render.estimate_view(estimate))
        preview = await client.preview_campaign(demo.campaign.id, message_number=1)
        if preview.HasField("sms"):
            self._step("Preview", render.size_line(preview.sms.size))
            self._print(Text(preview.sms.text, style="italic"))
        else:
            size = preview.email.size
            self._step("Preview", f"{size.html_bytes:,} bytes of HTML, {size.text_bytes:,} of text")
            self._print(Text(preview.email.subject, style="bold"))
            self._print(Text(preview.email.text.strip(), style="italic"))
            # The parts are told by their sizes; the HTML alone would fill screens.
            preview.email.ClearField("html")
        return {"estimate": as_data(estimate), "preview": as_data(preview)}

    def _introduce(self) -> None:
        if self._json:
            return
        say(
            "Nobody gets anything: a sandbox that speaks Twilio's and SendGrid's API takes it.",
            style="dim",
        )
        timers = ", ".join(
            f"{timer.what} {render.duration(timer.demo_seconds)}"
            f" (normally {render.duration(timer.product_seconds)})"
            for timer in SHORT_TIMERS
        )
        say(f"Timers shortened for the demo: {timers}.", style="dim")

    def _title(self, text: str) -> None:
        if not self._json:
            answers.print(Rule(Text(text, style="bold"), style="dim"))

    def _step(self, title: str, text: str) -> None:
        if not self._json:
            answers.print(Text(f"\n{title:<10}", style="bold cyan").append(text, style="default"))

    def _print(self, what: Any) -> None:
        if not self._json:
            answers.print(Padding(what, (0, 0, 0, 2)))

    async def _account(
        self, name: str, demo: DemoCampaign, client: OutreachClient, sandbox: SandboxClient
    ) -> bool:
        """Hold a campaign against the ledger and tell; whether all of it agrees."""
        accounts = await demo.account(client, sandbox)
        differences = [*demo.problems(), *accounts.differences]
        exact = accounts.exact and not differences
        self.data[name] |= {
            "campaign": as_data(demo.campaign),
            "accounts": [
                {"status": line.status, "campaign": line.ours, "ledger": line.ledger}
                for line in accounts.lines
            ],
            "total": accounts.total,
            "sent_more_than_once": accounts.sent_more_than_once,
            "differences": differences,
            "exact": exact,
            "run_seconds": round(demo.run_seconds, 1),
        }
        status = render.status_text(demo.campaign.status)
        self._step("Result", f"{demo.campaign.name}: {status} in {demo.run_seconds:.1f} s")
        self._print(accounts_table(accounts))
        if not self._json:
            for difference in differences:
                say(f"  ✗ {difference}", style="red")
        return exact

    def _tell_verdict(self, *, exact: bool) -> None:
        if exact:
            verdict = Text(
                "✓ Every message is accounted for: the counts add up, and equal the sandbox's"
                " ledgers; none was sent twice.",
                style="bold green",
            )
        else:
            verdict = Text("✗ The accounts do not agree.", style="bold red")
        self._print(verdict)


def accounts_table(accounts: Accounts) -> Table:
    """The campaign's counts beside the ledger's."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("status", footer="total")
    table.add_column("campaign", footer=f"{accounts.total:,}", justify="right")
    ledger_total = sum(line.ledger for line in accounts.lines)
    table.add_column("ledger", footer=f"{ledger_total:,}", justify="right")
    table.add_column("", footer="✓" if accounts.exact else "✗")
    table.add_column("in the ledger", footer=f"sent twice: {accounts.sent_more_than_once}")
    for line in accounts.lines:
        name = line.status.lower()
        mark = Text("✓", style="green") if line.equal else Text("✗", style="bold red")
        table.add_row(
            Text(render.label(name), style=render.COUNT_STYLES.get(name, "")),
            f"{line.ours:,}",
            f"{line.ledger:,}",
            mark,
            Text(line.source, style="dim"),
        )
    return table


async def _keep(stack: LocalStack, *, json: bool) -> None:
    if json:
        print_json(stack.describe(), line=True)
    else:
        answers.print("")
        print_addresses(stack)
        say("\nStill running; Ctrl-C stops everything.", style="dim")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("\nStopping…", style="dim")


def _what_next(contacts: int) -> None:
    if not remarks.is_terminal and not answers.is_terminal:
        return
    say("\nWhat to try next:", style="bold")
    for command, what in (
        ("outreach demo --keep", "leaves it running: look around, kill a process, run it again"),
        (f"outreach demo --contacts {contacts * 10} --pace 3000", "more, and faster"),
        ("outreach up --data-dir ./data", "a stack of your own; then campaign create, …"),
        ("outreach campaign --help", "everything a campaign can do"),
    ):
        # One below the other: beside each other they need more than most terminals have.
        remarks.print(Text(f"  {command}", style="cyan"))
        remarks.print(Padding(Text(what, style="dim"), (0, 0, 0, 6)))
