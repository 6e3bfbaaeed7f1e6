"""`outreach campaign …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.text import Text

from outreach.cli import email_options, names, previews, render
from outreach.cli.contents import (
    BodyFile,
    Sender,
    changed_content,
    refuse,
    sms_content,
    sms_text,
)
from outreach.cli.email_options import EmailOptions
from outreach.cli.exit_codes import ExitCode, exit_code_of_end
from outreach.cli.live import LiveCampaign, follow
from outreach.cli.output import answers, as_data, print_json, say
from outreach.cli.progress import progress
from outreach.cli.session import DEFAULT_ADDRESS, Address, ApiKey, Json, Session, ask
from outreach.client import CallError, OutreachClient
from outreach.v1 import campaign_pb2
from outreach.v1.channel_pb2 import CHANNEL_SMS, CHANNEL_UNSPECIFIED

app = typer.Typer(no_args_is_help=True, help="Create, look at and run campaigns.")

CampaignId = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="1 to 200 characters.")],
    channel: Annotated[str, typer.Option(help="sms or email; fixed for good.")] = "sms",
    description: Annotated[str, typer.Option(help="Up to 2,000 characters.")] = "",
    missing: Annotated[
        str,
        typer.Option(help="A contact lacks a value: keep-placeholder, or skip the contact."),
    ] = "keep-placeholder",
    sender: Sender = None,
    body: Annotated[
        str | None,
        typer.Option(
            help="The text, with {{variable}} or {{variable|fallback}}.", rich_help_panel="SMS"
        ),
    ] = None,
    body_file: BodyFile = None,
    validity_seconds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=36_000,
            help="How long the provider may queue a message.",
            rich_help_panel="SMS",
        ),
    ] = None,
    subject: email_options.Subject = None,
    html_file: email_options.HtmlFile = None,
    mjml_file: email_options.MjmlFile = None,
    blocks_file: email_options.BlocksFile = None,
    text_file: email_options.TextFile = None,
    preheader: email_options.Preheader = None,
    reply_to: email_options.ReplyTo = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check everything, store nothing.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Create a campaign."""
    policy = _policy(missing)
    chosen = names.parse_channel(channel)
    options = EmailOptions(
        subject, preheader, html_file, mjml_file, blocks_file, text_file, reply_to
    )
    of_sms = {"--body": body, "--body-file": body_file, "--validity-seconds": validity_seconds}
    sms, email = None, None
    if chosen == CHANNEL_SMS:
        if options.given:
            refuse(options.given, "for an email say --channel email")
        sms = sms_content(sms_text(body, body_file), sender, validity_seconds)
    else:
        wrong = [option for option, value in of_sms.items() if value is not None]
        if wrong:
            refuse(wrong, "an email has --html-file, --mjml-file or --blocks-file instead")
        email, _ = options.content(sender)

    async def work(client: OutreachClient) -> campaign_pb2.Campaign:
        return await client.create_campaign(
            name=name,
            description=description,
            channel=chosen,
            sms=sms,
            email=email,
            missing_variable_policy=policy,
            validate_only=check,
        )

    campaign = Session(address, api_key, json).call(work)
    if json:
        print_json(as_data(campaign))
        return
    answers.print(render.campaign_view(campaign))
    if check:
        say("Checked; nothing was stored.")
    else:
        say(f"\nNext: outreach contacts upload {campaign.id} FILE.csv", style="dim")


@app.command()
def update(
    campaign_id: CampaignId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    description: Annotated[str | None, typer.Option(help="A new description.")] = None,
    missing: Annotated[
        str | None, typer.Option(help="keep-placeholder, or skip the contact.")
    ] = None,
    sender: Sender = None,
    body: Annotated[str | None, typer.Option(help="A new text.", rich_help_panel="SMS")] = None,
    body_file: BodyFile = None,
    subject: email_options.Subject = None,
    html_file: email_options.HtmlFile = None,
    mjml_file: email_options.MjmlFile = None,
    blocks_file: email_options.BlocksFile = None,
    text_file: email_options.TextFile = None,
    preheader: email_options.Preheader = None,
    reply_to: email_options.ReplyTo = None,
    etag: Annotated[str, typer.Option(help="Refuse when the campaign has another etag.")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Check everything, store nothing.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Change what is given and leave the rest; before the first run only."""
    options = EmailOptions(
        subject, preheader, html_file, mjml_file, blocks_file, text_file, reply_to
    )
    content = changed_content(sms_text(body, body_file), sender, options)
    given = {"name": name, "description": description}
    paths = [path for path, value in given.items() if value is not None] + content.paths
    paths += ["missing_variable_policy"] if missing is not None else []
    if not paths:
        raise typer.BadParameter(
            "give at least one thing to change", param_hint="--name, --body, --subject"
        )
    policy = _policy(missing) if missing is not None else None

    async def work(client: OutreachClient) -> campaign_pb2.Campaign:
        return await client.update_campaign(
            campaign_id,
            name=name,
            description=description,
            sms=content.sms,
            email=content.email,
            missing_variable_policy=policy,
            update_mask=paths,
            etag=etag,
            validate_only=check,
        )

    campaign = Session(address, api_key, json).call(work)
    if json:
        print_json(as_data(campaign))
    else:
        answers.print(render.campaign_view(campaign))
        if check:
            say("Checked; nothing was stored.")


@app.command("list")
def list_(
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, as in in-progress; may be repeated.")
    ] = None,
    channel: Annotated[str, typer.Option(help="Only sms or email.")] = "",
    name: Annotated[str, typer.Option(help="Only names with this in them.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 50,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """List campaigns, newest first."""
    statuses = names.parse_campaign_statuses(status or [])
    chosen = names.parse_channel(channel) if channel else CHANNEL_UNSPECIFIED

    async def work(client: OutreachClient) -> list[campaign_pb2.Campaign]:
        found = []
        async for campaign in client.all_campaigns(
            channel=chosen, statuses=statuses, name_contains=name
        ):
            found.append(campaign)
            if len(found) == limit:
                break
        return found

    campaigns = Session(address, api_key, json).call(work)
    if json:
        print_json({"campaigns": [as_data(campaign) for campaign in campaigns]})
    elif campaigns:
        answers.print(render.campaigns_table(campaigns, width=answers.width))
    else:
        say("No campaigns.")


@app.command()
def show(
    campaign_id: CampaignId,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Show one campaign: status, counts, what can be done now."""
    campaign = Session(address, api_key, json).call(lambda c: c.get_campaign(campaign_id))
    if json:
        print_json(as_data(campaign))
    else:
        answers.print(render.campaign_view(campaign))


@app.command()
def run(
    campaign_id: CampaignId,
    accept_disclaimer: Annotated[
        bool,
        typer.Option("--accept-disclaimer", help="For scripts: you have read it and accept it."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "--wait", help="Show it live until it is final.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Check everything, run nothing.")] = False,
    etag: Annotated[str, typer.Option(help="Refuse when the campaign has another etag.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Send it. Shows the disclaimer and asks, unless it is accepted by option."""
    session = Session(address, api_key, json)
    disclaimer = session.call(lambda client: client.get_disclaimer())
    if not accept_disclaimer:
        ask_disclaimer(session, disclaimer)
    campaign = session.call(
        lambda client: client.run_campaign(
            campaign_id,
            accepted_disclaimer_version=disclaimer.version,
            etag=etag,
            validate_only=check,
        )
    )
    if watch and not check:
        follow_campaign(session, campaign_id)
    elif json:
        print_json(as_data(campaign))
    elif check:
        say("Checked: it can be run. Nothing was sent.")
    else:
        answers.print(Text("Running: ").append(campaign.name, style="bold"))
        say(f"Next: outreach campaign watch {campaign_id}", style="dim")


@app.command()
def watch(
    campaign_id: CampaignId,
    messages: Annotated[bool, typer.Option("--messages", help="Single messages too.")] = False,
    endless: Annotated[
        bool, typer.Option("--endless", help="Go on after it is final (late receipts).")
    ] = False,
    resume_token: Annotated[
        str, typer.Option(help="Go on after this token of an earlier --json watch.")
    ] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Follow a campaign live until it is final. With --json: one line a change."""
    follow_campaign(
        Session(address, api_key, json),
        campaign_id,
        resume_token=resume_token,
        include_messages=messages,
        until_final=not endless,
    )


@app.command()
def preview(
    campaign_id: CampaignId,
    contact: Annotated[
        int | None, typer.Option(min=1, help="The contact with this message number.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Made-up values; may be repeated."),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write an email's HTML to this file.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Write it to a file, and show that in a browser.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """Show the message as one contact gets it. Sends nothing."""
    if contact is not None and values:
        raise typer.BadParameter("give a contact or values, not both", param_hint="--contact")
    variables = dict(split_value(value) for value in values or [])
    number = 1 if contact is None and not values else contact

    async def work(client: OutreachClient) -> campaign_pb2.PreviewCampaignResponse:
        return await client.preview_campaign(
            campaign_id, message_number=number, variables=variables
        )

    answer = Session(address, api_key, json).call(work)
    written = previews.write_html(answer, html_file) if open_ or html_file else None
    if json:
        print_json(as_data(answer) | ({"html_file": str(written)} if written else {}))
    else:
        previews.show(answer)
        if written is not None:
            answers.print(Text(f"\n{written}"), soft_wrap=True)
    if written is not None and open_:
        previews.open_file(written)


@app.command()
def estimate(
    campaign_id: CampaignId,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = "",
    json: Json = False,
) -> None:
    """What a run would do and cost. Sends nothing."""
    with progress("Estimating", quiet=json):
        answer = Session(address, api_key, json).call(lambda c: c.estimate_campaign(campaign_id))
    if json:
        print_json(as_data(answer))
    else:
        answers.print(render.estimate_view(answer))


def ask_disclaimer(session: Session, disclaimer: campaign_pb2.Disclaimer) -> None:
    """Show it and ask; ends the command unless somebody is there who accepts it."""
    if session.interactive:
        say("By running this campaign you declare:", style="bold")
        for number, point in enumerate(disclaimer.points, start=1):
            say(f"  {number}. {point}")
        if ask("Do you accept all of this?"):
            return
    session.fail(
        CallError(
            "DISCLAIMER_NOT_ACCEPTED",
            "The disclaimer was not accepted, so nothing was sent. A script accepts it with"
            " --accept-disclaimer.",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )
    )


def follow_campaign(
    session: Session,
    campaign_id: str,
    *,
    resume_token: str = "",
    include_messages: bool = False,
    until_final: bool = True,
) -> None:
    """Show a campaign live; end the command with how the campaign ended."""

    async def work(client: OutreachClient) -> LiveCampaign:
        return await follow(
            client,
            campaign_id,
            json=session.json,
            resume_token=resume_token,
            include_messages=include_messages,
            until_final=until_final,
        )

    live = session.call(work)
    code = exit_code_of_end(live.status)
    if not session.json:
        answers.print(render.status_text(live.status))
        answers.print(render.counts_table(live.counts))
        if code is not ExitCode.OK and live.counts.failed:
            say(f"Why: outreach messages list {campaign_id} --status failed", style="dim")
    raise typer.Exit(code)


def _policy(word: str) -> campaign_pb2.MissingVariablePolicy.ValueType:
    return names.parse(
        campaign_pb2.MissingVariablePolicy, "MISSING_VARIABLE_POLICY_", word, "--missing"
    )


def split_value(pair: str) -> tuple[str, str]:
    """The name and the value of a `--set` option."""
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--set")
    return name.strip(), value
