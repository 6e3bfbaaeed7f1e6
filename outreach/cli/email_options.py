"""The options that make an email's content, for `campaign create` and `campaign update`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format

from outreach.cli.files import read_text
from outreach.v1 import campaign_pb2

_PANEL = "Email"
# `News <news@example.com>`, with or without quotes around the name.
_NAMED = re.compile(r'\s*"?(?P<name>[^"<>]*?)"?\s*<(?P<address>[^<>]*)>\s*')

Subject = Annotated[
    str | None, typer.Option(help="One line, with {{variable}}.", rich_help_panel=_PANEL)
]
Preheader = Annotated[
    str | None,
    typer.Option(help="The line that mail programs show after it.", rich_help_panel=_PANEL),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The email as HTML.", rich_help_panel=_PANEL),
]
MjmlFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Or: as MJML.", rich_help_panel=_PANEL),
]
BlocksFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Or: as blocks, JSON of the API's EmailBlocks.",
        rich_help_panel=_PANEL,
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="The plain-text part; else made from the HTML.",
        rich_help_panel=_PANEL,
    ),
]
ReplyTo = Annotated[
    str | None, typer.Option(help='"Name <address>", or an address.', rich_help_panel=_PANEL)
]


@dataclass(frozen=True)
class EmailOptions:
    """What was given of an email; None: not given."""

    subject: str | None = None
    preheader: str | None = None
    html_file: Path | None = None
    mjml_file: Path | None = None
    blocks_file: Path | None = None
    text_file: Path | None = None
    reply_to: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given, as they are written."""
        return [
            f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None
        ]

    def content(self, sender: str | None) -> tuple[campaign_pb2.EmailContent, list[str]]:
        """The content, and the paths of what is given; `sender` is that of `--from`.

        An empty `--reply-to` takes the Reply-to away. Raises typer.BadParameter.
        """
        content = campaign_pb2.EmailContent()
        paths = []
        if self.subject is not None:
            content.subject = self.subject
            paths.append("subject")
        if sender is not None:
            getattr(content, "from").CopyFrom(parse_address(sender, "--from"))
            paths.append("from")
        if self.reply_to is not None:
            if self.reply_to:
                content.reply_to.CopyFrom(parse_address(self.reply_to, "--reply-to"))
            paths.append("reply_to")
        if self.preheader is not None:
            content.preheader = self.preheader
            paths.append("preheader")
        paths += self._add_body(content)
        if self.text_file is not None:
            content.text = read_text(self.text_file, "--text-file")
            paths.append("text")
        return content, [f"email.{path}" for path in paths]

    def _add_body(self, content: campaign_pb2.EmailContent) -> list[str]:
        files = [
            (form, file)
            for form, file in (
                ("html", self.html_file),
                ("mjml", self.mjml_file),
                ("blocks", self.blocks_file),
            )
            if file is not None
        ]
        if len(files) > 1:
            raise typer.BadParameter(
                "an email has one body; give one of them",
                param_hint=", ".join(f"--{form}-file" for form, _ in files),
            )
        for form, file in files:
            text = read_text(file, f"--{form}-file")
            if form == "blocks":
                content.blocks.CopyFrom(_blocks(file, text))
            else:
                setattr(content, form, text)
        return [form for form, _ in files]


def parse_address(text: str, option: str) -> campaign_pb2.EmailAddress:
    """`Name <address>`, or an address alone; what an address is the service decides."""
    named = _NAMED.fullmatch(text)
    if named is not None:
        return campaign_pb2.EmailAddress(address=named["address"], display_name=named["name"])
    if "@" not in text or "<" in text or ">" in text:
        raise typer.BadParameter(
            f"{text!r} is neither an address nor NAME <ADDRESS>", param_hint=option
        )
    return campaign_pb2.EmailAddress(address=text.strip())


def _blocks(path: Path, text: str) -> campaign_pb2.EmailBlocks:
    blocks = campaign_pb2.EmailBlocks()
    try:
        json_format.Parse(text, blocks)
    except json_format.ParseError as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--blocks-file") from error
    return blocks
