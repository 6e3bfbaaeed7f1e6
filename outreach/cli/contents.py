"""What a campaign sends, from the options of `campaign create` and `campaign update`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from google.protobuf.duration_pb2 import Duration

from outreach.cli.email_options import EmailOptions
from outreach.cli.files import read_text
from outreach.v1 import campaign_pb2

Sender = Annotated[
    str | None,
    typer.Option(
        "--from",
        help='SMS: a number, a sender id, or a Messaging Service (MG…); else as set up. Email: "Name <address>".',
    ),
]
BodyFile = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="The text from a file (UTF-8).", rich_help_panel="SMS"
    ),
]


@dataclass(frozen=True)
class ChangedContent:
    """The content of one channel, and the paths of what is given; neither: nothing is."""

    sms: campaign_pb2.SmsContent | None = None
    email: campaign_pb2.EmailContent | None = None
    paths: list[str] = field(default_factory=list)


def sms_text(body: str | None, body_file: Path | None) -> str | None:
    """`--body`, or the text of `--body-file`; None: neither is given."""
    if body_file is None:
        return body
    if body:
        raise typer.BadParameter("give one of them, not both", param_hint="--body, --body-file")
    return read_text(body_file, "--body-file")


def sms_content(
    body: str | None, sender: str | None, validity_seconds: int | None = None
) -> campaign_pb2.SmsContent:
    """What of an SMS is given."""
    sms = campaign_pb2.SmsContent(body=body or "")
    if sender and sender.startswith("MG"):
        sms.sender.messaging_service_sid = sender
    elif sender:
        sms.sender.MergeFrom(campaign_pb2.SmsSender(**{"from": sender}))
    if validity_seconds is not None:
        sms.validity_period.CopyFrom(Duration(seconds=validity_seconds))
    return sms


def changed_content(body: str | None, sender: str | None, options: EmailOptions) -> ChangedContent:
    """What of an existing campaign's content is given; its channel shows in the options, or in the
    sender: only an email's has an `@`.
    """
    if body is not None and options.given:
        refuse(["--body", *options.given], "a campaign has one channel; give options of one")
    if options.given or (body is None and sender is not None and "@" in sender):
        email, paths = options.content(sender)
        return ChangedContent(email=email, paths=paths)
    paths = [
        path for path, value in (("sms.body", body), ("sms.sender", sender)) if value is not None
    ]
    return ChangedContent(sms=sms_content(body, sender) if paths else None, paths=paths)


def refuse(options: Sequence[str], why: str) -> NoReturn:
    """These options do not belong here."""
    raise typer.BadParameter(why, param_hint=", ".join(options))
