"""Where output goes: answers to stdout, everything said to a person meanwhile to stderr."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as ProtoMessage
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from outreach.client.errors import CallError

_PIPE_WIDTH = 240

# C0 but tab and line feed, DEL, C1, and what turns the direction of text.
_UNSEEN = dict.fromkeys(
    [
        *(set(range(0x20)) - {0x09, 0x0A}),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)


class _PlainTextConsole(Console):
    """Shows no character that a terminal obeys, or that changes how its neighbours are read.

    Names, texts and CSV cells are other people's: an escape sequence in them could move the cursor,
    a direction override could make a number read backwards. Rich counts no column for these
    characters, so tables stay in line without them. What Rich itself writes (styles, cursor) is not
    text and passes.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else text.translate(_UNSEEN), style, control)


# Campaign names and CSV cells may contain `[`…`]`: nothing is read as markup.
answers = _PlainTextConsole(markup=False, highlight=False)
if not answers.is_terminal and "COLUMNS" not in os.environ:
    # A pipe has no width: nothing is cut or wrapped to fit one.
    answers.width = _PIPE_WIDTH
remarks = _PlainTextConsole(stderr=True, markup=False, highlight=False)

# What to do next, where the reason alone says it; the service's text says the rule.
_HINTS: Mapping[str, str] = {
    "UNAVAILABLE": (
        "Is it running? `outreach up` starts a stack on this machine and prints its address;"
        " give it with --address or OUTREACH_ADDRESS."
    ),
    "CREDENTIAL_MISSING": "Give the API key with --api-key or OUTREACH_API_KEY.",
    "CREDENTIAL_INVALID": "Check --api-key or OUTREACH_API_KEY.",
    "CHANNEL_BUSY": "Follow the running one with `outreach campaign watch <its id>`.",
    "ETAG_MISMATCH": "Look at it again with `outreach campaign show`, then repeat.",
    "ATTACHMENT_TYPE_BLOCKED": "Put it on a web page, and a link to it into the email.",
    "ATTACHMENTS_TOO_LARGE": "See what there is with `outreach attachments list`.",
    "EXPORT_CHANGED": "Run the same command again: it exports from the beginning.",
    "NOT_CONFIRMED": "Say --yes once it is meant.",
    "CONSENT_NOT_CONFIRMED": "Say --consent once it is true.",
    "DISCLAIMER_NOT_ACCEPTED": "Read it with `outreach campaign run` in a terminal.",
    "MAPPING_NO_DESTINATION": (
        "Say which column has the recipients: --column NAME=destination, of a file of suppressions"
        " --column NAME."
    ),
    "NO_VALID_ROWS": "Numbers must be E.164, as in +14155550123; addresses as in ada@example.com.",
}


def as_data(message: ProtoMessage) -> dict[str, Any]:
    """A proto as JSON data: the protos' field names, every plain field present."""
    data: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return data


def print_json(data: Mapping[str, Any], *, line: bool = False) -> None:
    """One JSON document on stdout; `line`: on one line, for streams."""
    option = orjson.OPT_APPEND_NEWLINE | (0 if line else orjson.OPT_INDENT_2)
    sys.stdout.write(orjson.dumps(data, option=option).decode())
    sys.stdout.flush()


def say(text: str, style: str = "") -> None:
    """A remark for the person at the terminal, on stderr."""
    # Outside a terminal a remark is one line, however long.
    remarks.print(Text(text, style=style), soft_wrap=not remarks.is_terminal)


def error_data(error: CallError) -> dict[str, Any]:
    """A refusal as JSON data."""
    return {
        "error": {
            "status": error.code.name,
            "reason": error.reason,
            "text": error.text,
            "metadata": error.metadata,
            "violations": [
                {"field": v.field, "reason": v.reason, "text": v.text} for v in error.violations
            ],
        }
    }


def fault_data(reason: str, text: str) -> dict[str, Any]:
    """A fault of this program, or of what it started, in the shape of a refusal."""
    return error_data(CallError(reason, text, code=grpc.StatusCode.INTERNAL))


def print_error(error: CallError) -> None:
    """A refusal for people: what, which field and rule, what is known, what to do."""
    text = Text("Error: ", style="bold red").append(error.text, style="not bold default")
    text.append(f"\n  reason: {error.reason} ({error.code.name})", style="dim not bold default")
    for violation in error.violations:
        told = " " if violation.text == error.text else f": {violation.text} "
        text.append(f"\n  {violation.field}", style="bold default")
        text.append(told, style="not bold default")
        text.append(f"({violation.reason})", style="dim not bold default")
    for key, value in sorted(error.metadata.items()):
        text.append(f"\n  {key}: {value}", style="dim not bold default")
    hint = _HINTS.get(error.reason)
    if hint is not None:
        text.append(f"\n  {hint}", style="not bold cyan")
    remarks.print(text, soft_wrap=True)
