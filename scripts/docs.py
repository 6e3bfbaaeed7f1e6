"""Documents that come from the code: `python -m scripts.docs write` writes them, `check` fails on drift.

A document is hand-written text with generated blocks between markers. `check` also fails when something public has no
text: an RPC, a setting, an error reason.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from outreach.email.findings import WARNINGS
from outreach.failures.catalogue import REASONS
from outreach.failures.sendgrid import (
    BOUNCE_TYPES,
    CLASSIFICATIONS,
    DROPS,
    STATUSES,
    VAGUE_CLASSIFICATIONS,
)
from outreach.failures.twilio import CODES, Effect
from outreach.rpc.errors import CATALOGUE
from outreach.vocabulary import (
    OUTCOME_RANK,
    CampaignAction,
    CampaignStatus,
    Channel,
    FailureReason,
    MessageStatus,
    Outcome,
)
from scripts.proto_sources import Block, Item, blocks
from scripts.service_settings import settings_classes
from services.campaign.contacts.errors import RowReason
from services.campaign.domain.attachments import BLOCKED_EXTENSIONS
from services.campaign.domain.lifecycle import (
    ACTION_STATUSES,
    ACTIVE,
    FINAL,
    MESSAGE_EDGES,
    OUTCOME_TARGET,
    Cause,
)

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

PUBLIC, INTERNAL = "outreach.v1", "outreach.internal.v1"
_STANDARD_GET = "The resource as it is now."

#: What a row's problem means; each name of RowReason needs one.
ROW_TEXTS: Mapping[RowReason, str] = {
    RowReason.RAGGED: "The row has more or fewer fields than the file has columns.",
    RowReason.QUOTE_MALFORMED: "A quote stands where RFC 4180 allows none.",
    RowReason.UNDECODABLE: "The row has bytes that are no text in the file's encoding, or a NUL character.",
    RowReason.FIELD_TOO_LONG: "A field is longer than allowed (4 KB by default).",
    RowReason.RECIPIENT_MISSING: "The destination column is empty.",
    RowReason.INVALID_RECIPIENT: "Not a number in strict E.164 that can exist; not a possible email address.",
    RowReason.DUPLICATE: "The recipient was seen before in the file; the first one is kept.",
}

#: What the sender does on a refused create, by the code's effect.
EFFECT_TEXTS: Mapping[Effect, str] = {
    Effect.REJECT: "the message fails",
    Effect.OPT_OUT: "never tried again; a suppression is added",
    Effect.THROTTLE: "nothing was created: slower, and the same attempt again",
    Effect.ACCOUNT: "the campaign fails; the message is handed back",
}

#: Conditions of `allowed_actions` beside the status.
ACTION_CONDITIONS: Mapping[CampaignAction, str] = {
    CampaignAction.IMPORT_CONTACTS: "no contacts imported yet",
    CampaignAction.RUN: "somebody is left to send to",
    CampaignAction.STOP: "not stopped yet",
    CampaignAction.RETRY: "something failed, or something was cancelled",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"


def _channels(channels: Sequence[Channel]) -> str:
    if set(channels) == set(Channel):
        return "both"
    return ", ".join({Channel.SMS: "SMS", Channel.EMAIL: "email"}[channel] for channel in channels)


def _comments(package: str, enum: str) -> dict[str, str]:
    """Texts of an enum's values, by the name without its prefix."""
    block = next(block for block in blocks(package) if block.name == enum)
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum).upper() + "_"
    return {item.name.removeprefix(prefix): item.comment for item in block.items}


# lifecycle.md


def message_statuses() -> str:
    texts = _comments(PUBLIC, "MessageStatus")
    return table(
        ["Status", "Meaning", "Final", "Keeps the campaign in progress"],
        (
            [
                f"`{s.name}`",
                texts[s.name],
                "yes" if s in FINAL else "",
                "yes" if s in ACTIVE else "",
            ]
            for s in MessageStatus
        ),
    )


def message_chart() -> str:
    words = {
        Cause.SUPPRESSED: "suppressed",
        Cause.STOP: "stop",
        Cause.REPORT: "report",
    }
    labels: dict[tuple[MessageStatus, MessageStatus], list[str]] = {}
    for edge in MESSAGE_EDGES:
        label = words.get(edge.cause, edge.cause.value)
        if edge.channels == (Channel.EMAIL,):
            label += " (email)"
        if edge.source_reason is not None:
            label += f" after {edge.source_reason.name}"
        known = labels.setdefault((edge.source, edge.target), [])
        if label not in known:
            known.append(label)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {MessageStatus.WAITING.name}"]
    lines += [f"    {s.name} --> {t.name}: {', '.join(label)}" for (s, t), label in labels.items()]
    return "\n".join([*lines, "```"])


def message_edges() -> str:
    return table(
        ["From", "To", "Moved by", "When", "Channel"],
        (
            [
                f"`{edge.source.name}`"
                + (f" ({edge.source_reason.name})" if edge.source_reason else ""),
                f"`{edge.target.name}`",
                edge.cause.value,
                edge.note,
                _channels(edge.channels),
            ]
            for edge in MESSAGE_EDGES
        ),
    )


def outcomes() -> str:
    texts = _comments(INTERNAL, "Outcome")
    return table(
        ["Outcome", "Rank (SMS)", "Rank (email)", "Turns the message into", "Meaning"],
        (
            [
                f"`{outcome.name}`",
                *(str(OUTCOME_RANK[channel][outcome]) for channel in Channel),
                f"`{target.name}`" if (target := OUTCOME_TARGET[outcome]) else "(stays)",
                texts[outcome.name],
            ]
            for outcome in sorted(Outcome, key=OUTCOME_RANK[Channel.EMAIL].__getitem__)
        ),
    )


def campaign_statuses() -> str:
    texts = _comments(PUBLIC, "CampaignStatus")
    return table(["Status", "Meaning"], ([f"`{s.name}`", texts[s.name]] for s in CampaignStatus))


def campaign_actions() -> str:
    return table(
        ["Action", *(f"`{status.name}`" for status in CampaignStatus), "And only if"],
        (
            [
                f"`{action.name}`",
                *("yes" if status in statuses else "" for status in CampaignStatus),
                ACTION_CONDITIONS.get(action, ""),
            ]
            for action, statuses in ACTION_STATUSES.items()
        ),
    )


# errors.md


def error_reasons() -> str:
    return table(
        ["Reason", "gRPC status", "Meaning"],
        (
            [f"`{reason}`", entry.status.name, entry.description]
            for reason, entry in CATALOGUE.items()
        ),
    )


def row_reasons() -> str:
    return table(["Reason", "Meaning"], ([f"`{r.value}`", ROW_TEXTS.get(r, "")] for r in RowReason))


def blocked_extensions() -> str:
    return " ".join(f"`{extension}`" for extension in sorted(BLOCKED_EXTENSIONS))


def failure_reasons() -> str:
    return table(
        ["Reason", "What happened", "What to do", "Retry makes sense"],
        (
            [f"`{reason.name}`", told.text, told.advice, "yes" if told.retryable else "no"]
            for reason, told in REASONS.items()
        ),
    )


def twilio_codes() -> str:
    """The SMS sender's table, by what a code means for the message."""
    codes: dict[tuple[str, str], list[str]] = {}
    for code, rule in CODES.items():
        status = (
            f"`{rule.reason.name}`" if rule.reason else f"(status `{MessageStatus.OPTED_OUT.name}`)"
        )
        codes.setdefault((status, EFFECT_TEXTS[rule.effect]), []).append(code)
    return table(
        ["Failure reason", "When a create is refused with it", "Twilio codes"],
        ([*meaning, ", ".join(sorted(found))] for meaning, found in codes.items()),
    )


def sendgrid_events() -> str:
    """The email sender's tables, by what a code means for the message."""
    tables: Sequence[Mapping[str, FailureReason | None]] = (
        {**CLASSIFICATIONS, **VAGUE_CLASSIFICATIONS},
        STATUSES,
        BOUNCE_TYPES,
        DROPS,
    )
    reasons = [reason for reason in (*FailureReason, None) if any(
        reason in codes.values() for codes in tables
    )]  # fmt: skip
    return table(
        ["Failure reason", "Bounce classification", "SMTP status", "Bounce type", "Drop reason"],
        (
            [
                f"`{reason.name}`" if reason else f"(status `{MessageStatus.OPTED_OUT.name}`)",
                *(
                    ", ".join(code for code, why in codes.items() if why is reason)
                    for codes in tables
                ),
            ]
            for reason in reasons
        ),
    )


# settings.md


def settings() -> str:
    parts = []
    for found in settings_classes():
        rows = (
            [
                f"`{item.name}`",
                item.type,
                "**required**" if item.default is None else _code(item.default, secret=item.secret),
                item.unit,
                item.meaning + (" *Secret.*" if item.secret else ""),
            ]
            for item in found.settings
        )
        parts += [f"## `{found.package}`", found.meaning]
        parts.append(table(["Variable", "Type", "Default", "Unit", "Meaning"], rows))
    return "\n\n".join(parts)


def _code(default: str, *, secret: bool) -> str:
    if default == "none":
        return "none"
    return "made up" if secret else f"`{default}`"


# api.md


def template_warnings() -> str:
    return table(["Code", "Meaning"], ([f"`{code}`", text] for code, text in WARNINGS.items()))


def public_api() -> str:
    return _api(PUBLIC)


def internal_api() -> str:
    return _api(INTERNAL)


def _api(package: str) -> str:
    found = blocks(package)
    order = {"service": 0, "message": 1, "enum": 2}
    parts = []
    for file in dict.fromkeys(block.file for block in found):
        parts.append(f"### `protos/{file}`")
        in_file = [block for block in found if block.file == file]
        for block in sorted(in_file, key=lambda block: order[block.kind]):
            parts.extend(_block(block))
    return "\n\n".join(parts)


def _block(block: Block) -> list[str]:
    parts = [f"#### {block.kind} `{block.name}`", _prose(block.comment)]
    if block.kind == "service":
        for item in block.items:
            parts += [f"**`{item.name}`** ({item.type})", _prose(rpc_text(item))]
    elif block.kind == "message" and block.items:
        rows = (
            [
                str(item.number),
                f"`{item.name}`",
                item.type + (f" (one of `{item.oneof}`)" if item.oneof else ""),
                item.comment,
            ]
            for item in block.items
        )
        parts.append(table(["No.", "Field", "Type", "Meaning"], rows))
    elif block.items:
        rows = ([str(item.number), f"`{item.name}`", item.comment] for item in block.items)
        parts.append(table(["No.", "Value", "Meaning"], rows))
    return [part for part in parts if part]


def rpc_text(item: Item) -> str:
    """The RPC's comment; a standard Get needs none."""
    return item.comment or (_STANDARD_GET if item.name.startswith("Get") else "")


def _prose(comment: str) -> str:
    """A comment's paragraphs; its single line breaks are those of the source."""
    return "\n\n".join(" ".join(part.split("\n")) for part in comment.split("\n\n"))


BLOCKS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "lifecycle.md": {
        "message statuses": message_statuses,
        "message chart": message_chart,
        "message edges": message_edges,
        "outcomes": outcomes,
        "campaign statuses": campaign_statuses,
        "campaign actions": campaign_actions,
    },
    "errors.md": {
        "error reasons": error_reasons,
        "blocked extensions": blocked_extensions,
        "row reasons": row_reasons,
        "failure reasons": failure_reasons,
        "twilio codes": twilio_codes,
        "sendgrid events": sendgrid_events,
    },
    "settings.md": {"settings": settings},
    "api.md": {
        "template warnings": template_warnings,
        "public": public_api,
        "internal": internal_api,
    },
}


def rendered(name: str, text: str) -> str:
    """The document `name` with its blocks as the code gives them now."""
    for block, make in BLOCKS[name].items():
        start, end = f"<!-- generated: {block} -->", f"<!-- end: {block} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"docs/{name} lacks the markers of the block {block!r}")
        text = f"{before}{start}\n\n{make()}\n\n{end}{after}"
    return text


def drift() -> list[str]:
    """Documents that are not as the code gives them."""
    return [
        f"docs/{name}"
        for name in BLOCKS
        if (text := (DOCS / name).read_text(encoding="utf-8")) != rendered(name, text)
    ]


def missing_texts() -> list[str]:
    """What is public and has no text."""
    missing = [
        f"{block.name}.{item.name}: the RPC has no comment"
        for block in blocks(PUBLIC)
        if block.kind == "service"
        for item in block.items
        if not rpc_text(item)
    ]
    missing += [
        f"{item.name}: the setting has no description ({found.module})"
        for found in settings_classes()
        for item in found.settings
        if not item.meaning
    ]
    missing += [
        f"{r.value}: no text in scripts.docs.ROW_TEXTS" for r in RowReason if r not in ROW_TEXTS
    ]
    missing += [
        f"{reason}: no description" for reason, entry in CATALOGUE.items() if not entry.description
    ]
    for package, enum in (
        (PUBLIC, "FailureReason"),
        (PUBLIC, "MessageStatus"),
        (PUBLIC, "CampaignStatus"),
    ):
        missing += [
            f"{enum}.{name}: no comment"
            for name, text in _comments(package, enum).items()
            if not text and name != "UNSPECIFIED"
        ]
    return missing


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts.docs", description=__doc__)
    parser.add_argument("command", choices=["write", "generate", "check"], help="generate is write")
    if parser.parse_args(arguments).command != "check":
        for name in BLOCKS:
            path = DOCS / name
            path.write_text(rendered(name, path.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    missing, differing = missing_texts(), drift()
    for line in missing:
        print(line, file=sys.stderr)
    if differing:
        print("differ from the code; run `make docs`:", *differing, sep="\n  ", file=sys.stderr)
    return 1 if missing or differing else 0


if __name__ == "__main__":
    sys.exit(main())
