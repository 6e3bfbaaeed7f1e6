"""Unsubscribes that are entered at SendGrid too: what is entered, what is tried again, and what survives a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import nats
import orjson
import pytest
import structlog
from aiohttp import web

from outreach.jetstream.topology import SUPPRESSIONS_ACK_WAIT_SECONDS
from outreach.local.ports import free_port
from services.sandbox.app import Sandbox, running
from services.sandbox.settings import SandboxSettings
from tests.email_webhook_rig import EmailCampaign, EmailRig, email_rig
from tests.waiting import eventually

PATH = "/v3/asm/suppressions/global"


@asynccontextmanager
async def sandbox(port: int = 0) -> AsyncIterator[Sandbox]:
    async with running(SandboxSettings(http_port=port, seed="test")) as started:
        yield started


def campaign_with(api_key: str, count: int = 3) -> EmailCampaign:
    campaign = EmailCampaign()
    campaign.sendgrid.api_key = api_key
    campaign.sendgrid.push_suppressions = True
    campaign.add_sent(count)
    return campaign


async def unsubscribe(rig: EmailRig, *numbers: int) -> None:
    for number in numbers:
        assert await rig.post(rig.link_path(number), b"", {}) == 200


def entered(at: Sandbox) -> list[str]:
    return [*at.emails.suppressions.entries("unsubscribes")]


async def test_who_used_a_link_is_entered_at_sendgrid(nats_url: str, tmp_path: Path) -> None:
    async with sandbox() as at:
        campaign = campaign_with(at.settings.sendgrid_api_key)
        with structlog.testing.capture_logs() as lines:
            async with email_rig(
                nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, pushes=True
            ) as rig:
                await unsubscribe(rig, 1, 3, 3)
                await eventually(lambda: len(entered(at)) == 2, 60, "entered")
                await rig.none_stored()
        assert set(entered(at)) == {"somebody-1@example.com", "somebody-3@example.com"}
        assert "example.com" not in str(lines)
        assert len(campaign.opt_outs) == 3


async def test_where_the_account_does_not_ask_for_it_nobody_is_entered(
    nats_url: str, tmp_path: Path
) -> None:
    async with sandbox() as at:
        campaign = campaign_with(at.settings.sendgrid_api_key)
        campaign.sendgrid.push_suppressions = False
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, pushes=True
        ) as rig:
            await unsubscribe(rig, 1)
            await rig.none_stored()
        assert not entered(at)
        assert campaign.recipients_asked == 0


async def test_events_of_sendgrids_own_are_not_entered_again(nats_url: str, tmp_path: Path) -> None:
    async with sandbox() as at:
        campaign = campaign_with(at.settings.sendgrid_api_key)
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, pushes=True
        ) as rig:
            campaign.sendgrid.webhook_public_key = rig.webhook_key.public_key
            assert await rig.post_events(rig.event("unsubscribe"), rig.event("spamreport")) == 204
            await rig.none_stored()
            assert len(campaign.opt_outs) == 2
        assert campaign.recipients_asked == 0


async def test_who_is_gone_with_the_campaign_is_left(nats_url: str, tmp_path: Path) -> None:
    async with sandbox() as at:
        campaign = campaign_with(at.settings.sendgrid_api_key)
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, pushes=True
        ) as rig:
            await unsubscribe(rig, 99, 2)
            await eventually(lambda: entered(at), 60, "the other one is entered")
            await rig.none_stored()
        assert entered(at) == ["somebody-2@example.com"]


async def test_an_organisation_without_account_is_left(nats_url: str, tmp_path: Path) -> None:
    campaign = campaign_with("key")
    campaign.has_account = False
    async with email_rig(nats_url, tmp_path, campaign=campaign, pushes=True) as rig:
        await unsubscribe(rig, 1)
        await rig.none_stored()


async def test_it_survives_a_kill_before_it_was_entered(nats_url: str, tmp_path: Path) -> None:
    """The sender ends while SendGrid is away; another one, started later, enters the address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = SandboxSettings(http_port=port, seed="test")
    campaign = campaign_with(settings.sendgrid_api_key)
    with structlog.testing.capture_logs() as lines:
        async with email_rig(
            nats_url, tmp_path / "a", campaign=campaign, sendgrid_url=url, pushes=True
        ) as rig:
            await unsubscribe(rig, 1)
            await eventually(lambda: campaign.opt_outs, 60, "the report is not held up")
            await eventually(
                lambda: any(line["event"] == "suppressions_put_off" for line in lines),
                60,
                "tried in vain",
            )
    async with (
        sandbox(port) as at,
        email_rig(
            nats_url, tmp_path / "b", campaign=campaign, sendgrid_url=url, pushes=True
        ) as rig,
    ):
        # taken by the first sender once more as it ended, it comes again only when its time is up
        seconds_max = SUPPRESSIONS_ACK_WAIT_SECONDS + 30
        await eventually(lambda: entered(at) == ["somebody-1@example.com"], seconds_max, "entered")
        await rig.none_stored()


async def test_what_fails_is_tried_again_until_it_works(nats_url: str, tmp_path: Path) -> None:
    async with sandbox() as at:
        campaign = campaign_with("an old key")
        campaign.account_fault = grpc.StatusCode.UNAVAILABLE
        with structlog.testing.capture_logs() as lines:
            async with email_rig(
                nats_url,
                tmp_path,
                campaign=campaign,
                sendgrid_url=at.url,
                pushes=True,
                retry_seconds_min=0.05,
            ) as rig:
                await unsubscribe(rig, 1)

                def put_off(cause: str) -> Callable[[], bool]:
                    return lambda: any(
                        line["event"] == "suppressions_put_off" and line["cause"] == cause
                        for line in lines
                    )

                await eventually(put_off("UNAVAILABLE"), 60, "without the account")
                campaign.recipient_fault = grpc.StatusCode.INTERNAL
                campaign.account_fault = None
                await eventually(put_off("INTERNAL"), 60, "without the recipient")
                campaign.recipient_fault = None
                await eventually(put_off("HTTP 401"), 60, "with a key that is refused")
                campaign.sendgrid.api_key = at.settings.sendgrid_api_key
                await eventually(lambda: entered(at), 60, "entered")
                await rig.none_stored()
        assert "example.com" not in str(lines)
        assert len(campaign.opt_outs) == 1, "reported once, long before"


async def test_the_retries_end(nats_url: str, tmp_path: Path) -> None:
    async with sandbox() as at:
        campaign = campaign_with("a wrong key")
        with structlog.testing.capture_logs() as lines:
            async with email_rig(
                nats_url,
                tmp_path,
                campaign=campaign,
                sendgrid_url=at.url,
                pushes=True,
                retry_seconds_min=0.1,
                give_up_after_seconds=1.0,
            ) as rig:
                await unsubscribe(rig, 1)
                await rig.none_stored()
        assert [line["given_up"] for line in lines if line.get("given_up")] == [1]
        assert not entered(at)


@asynccontextmanager
async def sendgrid_that_refuses(*refused: str) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """Answers 400 to a request with one of these addresses."""
    requests: list[list[str]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert (request.method, request.path) == ("POST", PATH)
        assert request.headers["Authorization"] == "Bearer key"
        assert request.headers["Content-Type"] == "application/json"
        emails = orjson.loads(await request.read())["recipient_emails"]
        requests.append(emails)
        return web.Response(status=400 if set(emails) & set(refused) else 201)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    finally:
        await runner.cleanup()


async def test_one_that_is_refused_takes_no_others_with_it(nats_url: str, tmp_path: Path) -> None:
    campaign = campaign_with("key", 8)
    async with sendgrid_that_refuses("somebody-6@example.com") as (url, requests):
        async with email_rig(nats_url, tmp_path, campaign=campaign, sendgrid_url=url) as rig:
            await unsubscribe(rig, *range(1, 9))

            async def reported() -> bool:
                return await rig.stored() == 8

            await eventually(reported, 60, "only the suppressions are left")
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=url, pushes=True
        ) as rig:
            with structlog.testing.capture_logs() as lines:
                await rig.none_stored()
    assert len(requests[0]) == 8, "those that wait go together"
    taken = {
        email for emails in requests for email in emails if "somebody-6@example.com" not in emails
    }
    assert taken == {f"somebody-{number}@example.com" for number in range(1, 9) if number != 6}
    assert requests.count(["somebody-6@example.com"]) == 1
    refused = [line for line in lines if line["event"] == "suppression_refused"]
    assert [line["status"] for line in refused] == [400]
    assert "example.com" not in str(lines)


@pytest.mark.parametrize(
    "poison",
    [
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        {"organisation_id": "x"},
        {"organisation_id": 7},
        {"campaign_id": 7},
        {"campaign_id": ["x"]},
        {"number": None},
        {"number": "x"},
        {"number": 0},
        {"number": 2**40},
    ],
)
async def test_what_is_no_suppression_is_put_aside(
    nats_url: str, tmp_path: Path, poison: bytes | dict[str, object]
) -> None:
    async with sandbox() as at:
        campaign = campaign_with(at.settings.sendgrid_api_key)
        if isinstance(poison, dict):
            good = {
                "organisation_id": str(campaign.organisation_id),
                "campaign_id": str(campaign.campaign_id),
                "number": 2,
            }
            poison = orjson.dumps({**good, **poison})
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, pushes=True
        ) as rig:
            connection = await nats.connect(nats_url)
            try:
                await connection.jetstream().publish("outreach.inbox.email.suppressions", poison)
            finally:
                await connection.close()
            await unsubscribe(rig, 1)
            await eventually(lambda: entered(at), 60, "the next one is entered")
            await rig.none_stored()
        assert entered(at) == ["somebody-1@example.com"]


async def test_a_slow_sendgrid_holds_up_no_report(nats_url: str, tmp_path: Path) -> None:
    """It takes the request and says nothing; meanwhile events and links go their way."""
    never = asyncio.Event()

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    campaign = campaign_with("key", 50)
    try:
        async with email_rig(
            nats_url,
            tmp_path,
            campaign=campaign,
            sendgrid_url=f"http://127.0.0.1:{runner.addresses[0][1]}",
            pushes=True,
        ) as rig:
            campaign.sendgrid.webhook_public_key = rig.webhook_key.public_key
            await unsubscribe(rig, 1)
            await eventually(lambda: campaign.recipients_asked, 60, "being entered")
            events = [rig.event("delivered", number) for number in range(1, 51)]
            assert await rig.post_events(*events) == 204
            await unsubscribe(rig, 2)
            await eventually(lambda: len(campaign.opt_outs) == 2, 60, "both opt-outs")
            await rig.becomes(DELIVERED=50)
    finally:
        never.set()
        await runner.cleanup()
