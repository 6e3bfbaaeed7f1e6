"""Campaigns, messages, estimates and problems as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from outreach.cli import names
from outreach.v1 import (
    attachment_pb2,
    campaign_pb2,
    contact_pb2,
    message_pb2,
    suppression_pb2,
    test_send_pb2,
)

# In the order in which a message goes through them; also the order of every table.
COUNT_STYLES: Mapping[str, str] = {
    "waiting": "dim",
    "queued": "cyan",
    "sending": "cyan",
    "sent": "blue",
    "retrying": "yellow",
    "delivered": "green",
    "assumed_delivered": "green",
    "failed": "red",
    "opted_out": "magenta",
    "cancelled": "yellow",
}
# Columns of text from which a terminal shows everything.
_WIDE = 120
_ID_WIDTH = 36
_SAMPLE_WIDTH_MAX = 32
FINAL_COUNTS = ("delivered", "assumed_delivered", "failed", "opted_out", "cancelled")

_STATUS_STYLES: Mapping[campaign_pb2.CampaignStatus.ValueType, str] = {
    campaign_pb2.CAMPAIGN_STATUS_CREATED: "dim",
    campaign_pb2.CAMPAIGN_STATUS_READY: "cyan",
    campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS: "bold blue",
    campaign_pb2.CAMPAIGN_STATUS_ACTIVE_RETRIES: "bold yellow",
    campaign_pb2.CAMPAIGN_STATUS_COMPLETE: "bold green",
    campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS: "bold yellow",
    campaign_pb2.CAMPAIGN_STATUS_FAILED: "bold red",
}
_MISSING_POLICIES: Mapping[campaign_pb2.MissingVariablePolicy.ValueType, str] = {
    campaign_pb2.MISSING_VARIABLE_POLICY_KEEP_PLACEHOLDER: "keep the placeholder",
    campaign_pb2.MISSING_VARIABLE_POLICY_SKIP: "skip the contact",
}


def label(count_name: str) -> str:
    """`assumed_delivered` as people write it."""
    return count_name.replace("_", " ")


def status_text(status: campaign_pb2.CampaignStatus.ValueType) -> Text:
    """A campaign's status in its colour."""
    return Text(names.campaign_status(status), style=_STATUS_STYLES.get(status, ""))


def when(time: Timestamp) -> str:
    """A time in the terminal's own zone; empty when not set."""
    if not time.seconds:
        return ""
    return f"{time.ToDatetime().astimezone():%Y-%m-%d %H:%M:%S}"


def counts_table(counts: campaign_pb2.StatusCounts, *, title: str = "") -> Table:
    """Messages by status, the ones that occur, and the total they add up to."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("status", footer="total")
    table.add_column("messages", footer=f"{counts.total:,}", justify="right")
    table.add_column("share", footer="", justify="right")
    for name, style in COUNT_STYLES.items():
        number: int = getattr(counts, name)
        if number:
            share = f"{number / counts.total:.1%}" if counts.total else ""
            table.add_row(Text(label(name), style=style), f"{number:,}", share)
    return table


def campaign_view(campaign: campaign_pb2.Campaign) -> RenderableType:
    """One campaign in full."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    rows: list[tuple[str, str | Text]] = [
        ("id", campaign.id),
        ("name", Text(campaign.name, style="bold")),
        ("description", campaign.description),
        ("channel", names.channel(campaign.channel)),
        ("status", status_text(campaign.status)),
        *(_email_rows(campaign) if campaign.HasField("email") else _sms_rows(campaign.sms)),
        ("missing values", _MISSING_POLICIES.get(campaign.missing_variable_policy, "")),
        ("contacts", contacts_line(campaign.contacts)),
        ("columns", ", ".join(map(_column, campaign.columns))),
        ("run", str(campaign.run or "")),
        ("created", when(campaign.create_time)),
        ("started", when(campaign.start_time)),
        ("stopped", when(campaign.stop_time)),
        ("ended", when(campaign.end_time)),
        ("etag", campaign.etag),
        ("failure", campaign.failure.description),
        ("can", ", ".join(names.campaign_commands(campaign.allowed_actions))),
    ]
    for name, value in rows:
        if value:
            grid.add_row(name, value if isinstance(value, Text) else Text(value))
    parts: list[RenderableType] = [grid]
    parts += [
        Text(f"! {problem.description} ({problem.reason})", style="yellow")
        for problem in campaign.template_problems
    ]
    parts += [Text(warning_line(warning), style="yellow") for warning in campaign.template_warnings]
    if campaign.counts.total:
        parts.append(counts_table(campaign.counts))
    return Group(*parts)


def campaigns_table(campaigns: Iterable[campaign_pb2.Campaign], *, width: int) -> Table:
    """One campaign a line; a narrow terminal gets fewer columns, and ids are never cut."""
    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1) if wide else (0, 0, 0, 1))
    table.add_column("id", no_wrap=True, min_width=_ID_WIDTH)
    table.add_column("name", no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("channel", no_wrap=True)
    table.add_column("status", no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("created", no_wrap=True)
    for column in ("contacts", "delivered", "failed") if wide else ("failed",):
        table.add_column(column, justify="right", no_wrap=True)
    for campaign in campaigns:
        counts = campaign.counts
        cells: list[str | Text] = [campaign.id, Text(campaign.name)]
        cells += [names.channel(campaign.channel)] if wide else []
        cells.append(status_text(campaign.status))
        if wide:
            delivered = counts.delivered + counts.assumed_delivered
            cells += [when(campaign.create_time), f"{counts.total:,}", f"{delivered:,}"]
        table.add_row(*cells, f"{counts.failed:,}")
    return table


def suppressions_table(suppressions: Iterable[suppression_pb2.Suppression]) -> Table:
    """One recipient a line; of some only a hash is kept."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipient", overflow="fold")
    table.add_column("channel", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("opted out", no_wrap=True)
    for each in suppressions:
        recipient = Text(each.recipient) if each.recipient else Text("not kept", style="dim")
        table.add_row(
            recipient,
            names.channel(each.channel),
            names.suppression_source(each.source),
            when(each.event_time),
        )
    return table


def contacts_line(summary: campaign_pb2.ContactSummary) -> str:
    """What an import found, in one line; empty before one."""
    if not summary.rows:
        return ""
    return (
        f"{summary.imported:,} imported of {quantity(summary.rows, 'row')}"
        f" ({summary.invalid:,} invalid, {quantity(summary.duplicates, 'duplicate')})"
    )


def upload_view(
    upload: contact_pb2.ContactUpload, columns: Iterable[campaign_pb2.ContactColumn]
) -> RenderableType:
    """What was found in a file: how it is read, its columns' roles, and its first rows."""
    delimiter = {"\t": "tab", ",": "comma", ";": "semicolon"}.get(upload.delimiter, "")
    guessed = " (a guess: look at the rows)" if upload.encoding_guessed else ""
    header = "with a header" if upload.has_header else "no header"
    table = Table(box=box.SIMPLE_HEAD, show_lines=False)
    for column in columns:
        table.add_column(
            Text(f"{column.name}\n{_role(column)}"),
            overflow="ellipsis",
            no_wrap=True,
            # One long cell would squeeze all other columns to nothing.
            max_width=_SAMPLE_WIDTH_MAX,
        )
    for row in upload.sample_rows:
        table.add_row(*(Text(value) for value in row.values))
    line = f"{upload.encoding}{guessed}, separated by {delimiter}, {header}"
    return Group(Text(line, style="dim"), table)


def problems_table(problems: Iterable[contact_pb2.ContactProblem]) -> Table:
    """Rows that were skipped, and why."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("row", justify="right")
    for column in ("column", "reason", "what is wrong"):
        table.add_column(column, overflow="fold")
    for problem in problems:
        table.add_row(
            str(problem.row), Text(problem.column), problem.reason, Text(problem.description)
        )
    return table


def attachments_table(attachments: Iterable[attachment_pb2.Attachment]) -> Table:
    """One file a line, in the order in which they were added; ids are never cut."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("id", no_wrap=True, min_width=_ID_WIDTH)
    table.add_column("name", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("type", overflow="fold")
    for attachment in attachments:
        size = decimal(attachment.size_bytes)
        table.add_row(
            attachment.id, Text(attachment.file_name), size, Text(attachment.content_type)
        )
    return table


def messages_table(messages: Iterable[message_pb2.Message], *, width: int) -> Table:
    """One message a line; a narrow terminal gets fewer columns."""
    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("number", justify="right", no_wrap=True)
    for column in ("recipient", "status", "reason", "code"):
        table.add_column(column, no_wrap=True)
    if wide:
        for column in ("attempt", "segments"):
            table.add_column(column, justify="right")
        table.add_column("changed", no_wrap=True)
    for message in messages:
        status = names.message_status(message.status)
        cells: list[str | Text] = [
            str(message.number),
            Text(message.recipient),
            Text(status, style=COUNT_STYLES.get(status.lower(), "")),
            names.failure_reason(message.failure_reason),
            message.provider_code,
        ]
        if wide:
            attempt, segments = str(message.attempt or ""), str(message.segments or "")
            cells += [attempt, segments, when(message.update_time)]
        table.add_row(*cells)
    return table


def test_send_table(messages: Iterable[test_send_pb2.TestMessage], *, width: int) -> Table:
    """One recipient a line; the provider's id where there is room."""
    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("recipient", "status", "reason", "code"):
        table.add_column(column, no_wrap=True)
    if wide:
        table.add_column("provider's id", no_wrap=True)
    for message in messages:
        status = names.message_status(message.status)
        cells: list[str | Text] = [
            Text(message.recipient),
            Text(status, style=COUNT_STYLES.get(status.lower(), "")),
            names.failure_reason(message.failure_reason),
            Text(message.provider_code),
        ]
        table.add_row(*cells, *([Text(message.provider_message_id)] if wide else []))
    return table


def estimate_view(estimate: campaign_pb2.EstimateCampaignResponse) -> RenderableType:
    """What a run would do."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("to send", Text(f"{estimate.to_send:,}", style="bold"))
    rows = [
        ("opted out before", estimate.suppressed),
        ("values missing", estimate.missing_variables),
        ("of these skipped", estimate.skipped),
        ("text too long", estimate.too_long),
    ]
    for name, number in rows:
        if number:
            grid.add_row(name, f"{number:,}")
    for variable, number in sorted(estimate.missing_by_variable.items()):
        grid.add_row("", f"{{{{{variable}}}}}: {number:,}")
    if estimate.HasField("sms"):
        sms = estimate.sms
        grid.add_row(
            "segments",
            f"{sms.segments_total:,} in all; a message {sms.segments_min}"
            f" to {sms.segments_max}, {sms.segments_mean:.2f} on average",
        )
        grid.add_row("template", size_line(sms.template))
        if sms.HasField("cost"):
            cost = sms.cost
            grid.add_row("cost", f"{cost.amount_micros / 1e6:,.2f} {cost.currency_code}")
        if sms.HasField("sending_time"):
            grid.add_row("sending takes", duration(sms.sending_time.ToSeconds()))
    if estimate.HasField("email"):
        email = estimate.email
        grid.add_row("template", email_size_line(email.template))
        if email.attachments_bytes:
            grid.add_row("attachments", file_size(email.attachments_bytes))
        if email.HasField("sending_time"):
            grid.add_row("sending takes", duration(email.sending_time.ToSeconds()))
    return grid


def email_size_line(size: campaign_pb2.EmailSize) -> str:
    """An email's size, as in "HTML 12.3 KB, text 1.0 KB"."""
    return f"HTML {file_size(size.html_bytes)}, text {file_size(size.text_bytes)}"


def warning_line(warning: campaign_pb2.TemplateWarning) -> str:
    """What an author should look at."""
    return f"? {warning.description} ({warning.code})"


def address(of: campaign_pb2.EmailAddress) -> str:
    """`News <news@example.com>`."""
    return f"{of.display_name} <{of.address}>" if of.display_name else of.address


def file_size(size_bytes: int) -> str:
    """Bytes as people say them; a KB has 1,024, as in Gmail's limit."""
    if size_bytes < 1024:
        return quantity(size_bytes, "byte")
    if size_bytes < 1024 * 1024:
        return f"{size_bytes / 1024:.1f} KB"
    return f"{size_bytes / (1024 * 1024):.1f} MB"


def size_line(size: campaign_pb2.SmsSize) -> str:
    """A text's size, as in "GSM-7, 120 units, 1 segment"."""
    encoding = names.short_name(campaign_pb2.SmsEncoding.Name(size.encoding), "SMS_ENCODING_")
    units, segments = quantity(size.units, "unit"), quantity(size.segments, "segment")
    return f"{encoding.replace('_', '-')}, {units}, {segments}"


def quantity(number: int, noun: str) -> str:
    """So many of them, as in 1 row, 2,000 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _sms_rows(sms: campaign_pb2.SmsContent) -> list[tuple[str, str | Text]]:
    sender = sms.sender.messaging_service_sid or getattr(sms.sender, "from")
    return [("text", sms.body), ("from", sender)]


def _email_rows(campaign: campaign_pb2.Campaign) -> list[tuple[str, str | Text]]:
    email = campaign.email
    return [
        ("subject", email.subject),
        ("preheader", email.preheader),
        ("from", address(getattr(email, "from"))),
        ("reply to", address(email.reply_to)),
        ("body", _body_line(email)),
        ("plain text", f"given, {file_size(len(email.text.encode()))}" if email.text else ""),
        ("size", email_size_line(campaign.email_size) if campaign.HasField("email_size") else ""),
    ]


def _body_line(email: campaign_pb2.EmailContent) -> str:
    form = email.WhichOneof("body")
    if form == "blocks":
        return quantity(len(email.blocks.blocks), "block")
    code = email.mjml if form == "mjml" else email.html
    return f"{form.upper()}, {file_size(len(code.encode()))}" if form else ""


def _column(column: campaign_pb2.ContactColumn) -> str:
    return f"{column.name} → {_role(column)}"


def _role(column: campaign_pb2.ContactColumn) -> str:
    if column.role == campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE:
        return f"{{{{{column.variable_name}}}}}"
    if column.role == campaign_pb2.COLUMN_ROLE_DESTINATION:
        return "destination"
    return "not imported"
