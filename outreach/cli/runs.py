"""`outreach campaign stop` and `outreach campaign retry`."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer
from rich.text import Text

from outreach.cli import names, render
from outreach.cli.campaign import CampaignId, ask_disclaimer, follow_campaign
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.progress import progress
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session, ask
from outreach.client import CallError
from outreach.v1 import campaign_pb2, message_pb2
from outreach.v1.failure_reason_pb2 import FailureReason

Etag = Annotated[str, typer.Option(help="Refuse when the campaign has another etag.")]
Watch = Annotated[bool, typer.Option("--watch", "--wait", help="Show it live until it is final.")]


def stop(
    campaign_id: CampaignId,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="For scripts: stop it without asking.")
    ] = False,
    watch: Watch = False,
    etag: Etag = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """End the sending at once. Says what that does and asks, unless --yes is given."""
    session = Session(address, api_key, json)
    if not yes:
        _ask_to_stop(session, session.call(lambda client: client.get_campaign(campaign_id)))
    campaign = session.call(lambda client: client.stop_campaign(campaign_id, etag=etag))
    if watch:
        follow_campaign(session, campaign_id)
    elif json:
        print_json(as_data(campaign))
    else:
        answers.print(Text("Stopped: ").append(campaign.name, style="bold"))
        under_way = campaign.counts.sending + campaign.counts.sent
        say(
            f"{campaign.counts.queued:,} queued are being cancelled;"
            f" {under_way:,} handed over go on to their end."
        )
        say(f"Later: outreach campaign retry {campaign_id} --cancelled", style="dim")


def retry(
    campaign_id: CampaignId,
    number: Annotated[
        list[int] | None, typer.Option(min=1, help="This message; may be repeated.")
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="All that are failed, or cancelled; may be repeated.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Of the failed ones only these; may be repeated.")
    ] = None,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="All that failed: --status failed.")
    ] = False,
    cancelled: Annotated[
        bool,
        typer.Option("--cancelled", help="Resume a stopped campaign: --status cancelled."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also where a retry makes no sense; after UNCONFIRMED it may arrive twice.",
        ),
    ] = False,
    accept_disclaimer: Annotated[
        bool,
        typer.Option("--accept-disclaimer", help="For scripts: you have read it and accept it."),
    ] = False,
    watch: Watch = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check and count everything, retry nothing.")
    ] = False,
    etag: Etag = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Send messages again that failed or were cancelled. Shows the disclaimer and asks, like a run."""
    statuses, reasons = _chosen(number, status, reason, all_failed, cancelled)
    session = Session(address, api_key, json)
    disclaimer = session.call(lambda client: client.get_disclaimer())
    if not accept_disclaimer:
        ask_disclaimer(session, disclaimer)
    with progress("Queueing", quiet=json):
        answer = session.call(
            lambda client: client.retry_messages(
                campaign_id,
                accepted_disclaimer_version=disclaimer.version,
                numbers=number,
                statuses=statuses,
                failure_reasons=reasons,
                force=force,
                etag=etag,
                validate_only=check,
            )
        )
    if watch and not check:
        _tell(answer, check=check)
        follow_campaign(session, campaign_id)
    elif json:
        print_json(as_data(answer))
    else:
        answers.print(
            Text("Checked: " if check else "Running: ").append(answer.campaign.name, style="bold")
        )
        _tell(answer, check=check)
        if not check:
            say(f"Next: outreach campaign watch {campaign_id}", style="dim")


def _tell(answer: campaign_pb2.RetryMessagesResponse, *, check: bool) -> None:
    messages = render.quantity(answer.retried, "message")
    say(f"{messages} can be retried. Nothing was sent." if check else f"{messages} queued again.")
    if answer.not_retryable:
        say(
            f"{answer.not_retryable:,} left as they are: for their reasons a retry makes no sense"
            " (see --force).",
            style="yellow",
        )


def _chosen(
    number: list[int] | None,
    status: list[str] | None,
    reason: list[str] | None,
    all_failed: bool,
    cancelled: bool,
) -> tuple[list[message_pb2.MessageStatus.ValueType], list[FailureReason.ValueType]]:
    """The filter's statuses and reasons; nothing is retried that was not asked for."""
    words = [*(status or [])] + ["failed"] * all_failed + ["cancelled"] * cancelled
    if number and (words or reason):
        raise typer.BadParameter(
            "give numbers, or a status and reasons, not both", param_hint="--number"
        )
    if not (number or words or reason):
        raise typer.BadParameter(
            "say which messages to retry",
            param_hint="--number, --all-failed, --cancelled, --status, --reason",
        )
    statuses = names.parse_message_statuses(words)
    return [*dict.fromkeys(statuses)], names.parse_failure_reasons(reason or [])


def _ask_to_stop(session: Session, campaign: campaign_pb2.Campaign) -> None:
    if session.interactive:
        counts = campaign.counts
        say("Stopping this campaign means:", style="bold")
        say(
            f"  1. Nothing more is sent; the {counts.queued:,} messages in the queue are cancelled."
        )
        say("  2. What the provider has, or is getting at this moment, is not called back.")
        say("  3. The channel is free for others when that has come to its end.")
        say("  4. The cancelled ones can be sent later: campaign retry --cancelled.")
        if ask(f"Stop {campaign.name!r}?"):
            return
    session.fail(
        CallError(
            "STOP_NOT_CONFIRMED",
            "The stop was not confirmed, so the campaign goes on. A script says --yes.",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )
    )
