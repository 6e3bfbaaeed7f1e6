"""A message's timeline as a terminal shows it."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from outreach.cli import names, render
from outreach.v1 import message_pb2
from outreach.v1.failure_reason_pb2 import FailureReason


def timeline_view(timeline: message_pb2.MessageTimeline) -> RenderableType:
    """The message, its attempts, the changes of its status, and its text."""
    message = timeline.message
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    rows: list[tuple[str, str | Text]] = [
        ("message", str(message.number)),
        ("recipient", message.recipient),
        ("status", _status(message.status, message.failure_reason)),
        ("code", message.provider_code),
        ("retry", "makes sense" if message.retryable else ""),
        ("run", str(message.run or "")),
        (
            "values",
            ", ".join(f"{name}={value}" for name, value in sorted(message.variables.items())),
        ),
        ("subject", timeline.email_subject),
    ]
    for name, value in rows:
        if value:
            grid.add_row(name, value if isinstance(value, Text) else Text(value))
    parts: list[RenderableType] = [grid]
    if timeline.attempts:
        parts.append(_attempts(timeline))
    if timeline.changes:
        parts.append(_changes(timeline))
    text = timeline.sms_text or timeline.email_text
    if text:
        parts += [Text("What the recipient gets:", style="dim"), Text(text)]
    return Group(*parts)


def _attempts(timeline: message_pb2.MessageTimeline) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("attempt", "run"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("claimed", "came to", "status", "code", "provider's id"):
        table.add_column(column, overflow="fold")
    for attempt in timeline.attempts:
        table.add_row(
            str(attempt.attempt),
            str(attempt.run),
            render.when(attempt.claim_time),
            render.when(attempt.update_time),
            _status(attempt.status, attempt.failure_reason),
            Text(attempt.provider_code),
            Text(attempt.provider_message_id),
        )
    return table


def _changes(timeline: message_pb2.MessageTimeline) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("time", "status"):
        table.add_column(column, no_wrap=True)
    table.add_column("attempt", justify="right")
    for change in timeline.changes:
        status = _status(change.status, change.failure_reason)
        table.add_row(render.when(change.time), status, str(change.attempt or ""))
    return table


def _status(status: message_pb2.MessageStatus.ValueType, reason: FailureReason.ValueType) -> Text:
    name = names.message_status(status)
    text = Text(name, style=render.COUNT_STYLES.get(name.lower(), ""))
    return text.append(f": {names.failure_reason(reason)}") if reason else text
