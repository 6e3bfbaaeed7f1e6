"""A preview at the terminal, and an email's as a file that a browser shows."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

import typer
from rich.text import Text

from outreach.cli import render
from outreach.cli.output import answers, say
from outreach.v1 import campaign_pb2


def write_html(preview: campaign_pb2.PreviewCampaignResponse, path: Path | None) -> Path:
    """Write an email's HTML to `path`, or to a new file that only this user can read."""
    if not preview.HasField("email"):
        raise typer.BadParameter("an SMS has no HTML", param_hint="--open, --html-file")
    try:
        if path is None:
            with tempfile.NamedTemporaryFile(
                prefix="outreach-preview-", suffix=".html", delete=False
            ) as file:
                path = Path(file.name)
        path.write_text(preview.email.html, "utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--html-file") from error
    return path.resolve()


def open_file(path: Path) -> None:
    """Show it in a browser, where there is one."""
    if not webbrowser.open(path.as_uri()):
        say("There is no browser here; open the file yourself.", style="yellow")


def show(preview: campaign_pb2.PreviewCampaignResponse) -> None:
    """The message on stdout, what is to say about it on stderr."""
    if preview.HasField("email"):
        email = preview.email
        answers.print(Text(f"Subject: {email.subject}", style="bold"), soft_wrap=True)
        if email.preheader:
            answers.print(Text(email.preheader, style="dim"), soft_wrap=True)
        answers.print(Text(f"\n{email.text}"), soft_wrap=True)
        say(render.email_size_line(email.size), style="dim")
        for warning in email.warnings:
            say(render.warning_line(warning), style="yellow")
    else:
        answers.print(Text(preview.sms.text), soft_wrap=True)
        say(render.size_line(preview.sms.size), style="dim")
    if preview.missing_variables:
        say(f"Without a value: {', '.join(preview.missing_variables)}", style="yellow")
