"""What is found out about SendGrid accounts, and when it is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import structlog
from aiohttp import web

from outreach.internal.v1 import delivery_pb2
from outreach.local.ports import free_port
from outreach.v1 import channel_pb2
from services.sandbox.app import running
from services.sandbox.knobs import Knobs
from services.sandbox.settings import SandboxSettings
from services.sender_email.account_checks import KEY_REFUSED, SEND_NOT_ALLOWED
from tests.email_webhook_rig import EmailCampaign, email_rig
from tests.waiting import eventually

Check = delivery_pb2.ReportAccountCheckRequest


def settings(**changes: Any) -> SandboxSettings:
    return SandboxSettings(http_port=0, seed="test", **changes)


async def first_check(campaign: EmailCampaign) -> Check:
    await eventually(lambda: campaign.account_checks, 60, "a check")
    return campaign.account_checks[0]


async def test_an_account_in_order_is_reported_with_its_senders(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaign()
    chosen = settings(
        sendgrid_verified_senders="A@one.example,b@one.example",
        sendgrid_domains="Mail.two.example,three.example",
    )
    with structlog.testing.capture_logs() as lines:
        async with running(chosen) as at:
            campaign.sendgrid.api_key = chosen.sendgrid_api_key
            async with email_rig(
                nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, checks=True
            ):
                check = await first_check(campaign)
    assert check == Check(
        organisation_id=str(campaign.organisation_id),
        channel=channel_pb2.CHANNEL_EMAIL,
        sender_addresses=["a@one.example", "b@one.example"],
        sender_domains=["mail.two.example", "three.example"],
    )
    assert chosen.sendgrid_api_key not in str(lines)
    assert "one.example" not in str(lines)


async def test_a_refused_key_is_a_fault_and_says_nothing_of_senders(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaign()
    campaign.sendgrid.api_key = "wrong"
    async with (
        running(settings()) as at,
        email_rig(nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, checks=True),
    ):
        check = await first_check(campaign)
    assert check.fault == KEY_REFUSED
    assert check.senders_unknown
    assert not check.sender_addresses
    assert "wrong" not in check.fault


async def test_a_key_without_the_right_to_send_is_a_fault(nats_url: str, tmp_path: Path) -> None:
    campaign = EmailCampaign()
    knobs = Knobs.model_validate({"email": {"scopes": ["whitelabel.read"]}})
    async with running(settings(knobs=knobs)) as at:
        campaign.sendgrid.api_key = at.settings.sendgrid_api_key
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=at.url, checks=True
        ):
            check = await first_check(campaign)
    assert check.fault == SEND_NOT_ALLOWED
    assert check.sender_addresses == ["campaigns@outreach.example"]
    assert not check.senders_unknown


async def test_it_is_checked_again_and_again_with_the_key_of_the_day(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaign()
    campaign.sendgrid.api_key = "wrong"
    async with (
        running(settings()) as at,
        email_rig(
            nats_url,
            tmp_path,
            campaign=campaign,
            sendgrid_url=at.url,
            checks=True,
            check_interval_seconds=0.2,
        ),
    ):
        await eventually(lambda: len(campaign.account_checks) >= 2, 60, "checked again")
        campaign.sendgrid.api_key = at.settings.sendgrid_api_key
        await eventually(
            lambda: not campaign.account_checks[-1].fault, 60, "the new key is in order"
        )


async def test_what_fails_is_tried_again_soon(nats_url: str, tmp_path: Path) -> None:
    """Long before the next round: SendGrid and the campaign service were away."""
    campaign = EmailCampaign()
    campaign.account_fault = grpc.StatusCode.UNAVAILABLE
    port = free_port()
    with structlog.testing.capture_logs() as lines:
        async with email_rig(
            nats_url,
            tmp_path,
            campaign=campaign,
            sendgrid_url=f"http://127.0.0.1:{port}",
            checks=True,
            retry_seconds_min=0.05,
        ):

            def failed(cause: str) -> Callable[[], bool]:
                return lambda: any(cause in str(line.get("cause")) for line in lines)

            await eventually(failed("UNAVAILABLE"), 60, "no account")
            campaign.account_fault = None
            await eventually(failed("no answer"), 60, "no SendGrid")
            async with running(SandboxSettings(http_port=port, seed="test")) as at:
                campaign.sendgrid.api_key = at.settings.sendgrid_api_key
                assert (await first_check(campaign)).fault == ""
    assert len(campaign.account_checks) == 1


Answers = dict[str, Callable[[dict[str, str]], web.Response]]


@asynccontextmanager
async def sendgrid(answers: Answers) -> AsyncIterator[tuple[str, list[str]]]:
    """Answers by path; what it is asked for is noted."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path_qs)
        return answers[request.path](dict(request.query))

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def json(value: object) -> Callable[[dict[str, str]], web.Response]:
    return lambda _: web.json_response(value)


def status(code: int) -> Callable[[dict[str, str]], web.Response]:
    return lambda _: web.Response(status=code)


def account(**changes: Callable[[dict[str, str]], web.Response]) -> Answers:
    return {
        "/v3/scopes": changes.get("scopes", json({"scopes": ["mail.send"]})),
        "/v3/verified_senders": changes.get("senders", json({"results": []})),
        "/v3/whitelabel/domains": changes.get("domains", json([])),
    }


async def checked(nats_url: str, tmp_path: Path, answers: Answers) -> tuple[Check, list[str]]:
    campaign = EmailCampaign()
    async with (
        sendgrid(answers) as (url, asked),
        email_rig(nats_url, tmp_path, campaign=campaign, sendgrid_url=url, checks=True),
    ):
        return await first_check(campaign), asked


async def test_lists_are_read_page_by_page(nats_url: str, tmp_path: Path) -> None:
    senders = [
        {"id": number, "from_email": f"s{number}@one.example", "verified": number % 2 == 0}
        for number in range(1, 121)
    ]
    domains = [
        {"id": number, "domain": f"d{number}.example", "valid": number != 7}
        for number in range(1, 61)
    ]

    def senders_page(query: dict[str, str]) -> web.Response:
        after = int(query.get("lastSeenID", "0"))
        page = [one for one in senders if int(str(one["id"])) > after][: int(query["limit"])]
        return web.json_response({"results": page})

    def domains_page(query: dict[str, str]) -> web.Response:
        offset = int(query.get("offset", "0"))
        return web.json_response(domains[offset : offset + int(query["limit"])])

    answers = account(senders=senders_page, domains=domains_page)
    check, asked = await checked(nats_url, tmp_path, answers)
    assert len(check.sender_addresses) == 60
    assert "s2@one.example" in check.sender_addresses
    assert "s1@one.example" not in check.sender_addresses
    assert len(check.sender_domains) == 59
    assert "d7.example" not in check.sender_domains
    assert len(asked) == 1 + 4 + 3


async def test_a_list_that_never_ends_is_read_to_its_limit(nats_url: str, tmp_path: Path) -> None:
    def endless(query: dict[str, str]) -> web.Response:
        offset = int(query.get("offset", "0"))
        page = [
            {"id": number, "domain": f"d{number}.example", "valid": True}
            for number in range(offset, offset + 50)
        ]
        return web.json_response(page)

    check, asked = await checked(nats_url, tmp_path, account(domains=endless))
    assert len(check.sender_domains) == 5_000
    assert len([path for path in asked if path.startswith("/v3/whitelabel")]) == 100


@pytest.mark.parametrize("refused", ["senders", "domains"])
async def test_a_key_that_may_not_list_its_senders_is_no_fault(
    nats_url: str, tmp_path: Path, refused: str
) -> None:
    """Half of the senders would refuse the other half: then nothing is known of them."""
    others = {
        "senders": json({"results": [{"id": 1, "from_email": "a@b.example", "verified": True}]}),
        "domains": json([{"id": 1, "domain": "b.example", "valid": True}]),
    }
    answers = account(**{**others, refused: status(403)})
    check, _ = await checked(nats_url, tmp_path, answers)
    assert check.fault == ""
    assert check.senders_unknown
    assert not check.sender_addresses
    assert not check.sender_domains


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({"scopes": status(500)}, id="a fault of SendGrid's"),
        pytest.param({"scopes": status(429)}, id="too many requests"),
        pytest.param({"scopes": json([])}, id="no scopes"),
        pytest.param({"scopes": lambda _: web.Response(text="<html>")}, id="no JSON"),
        pytest.param({"senders": json({})}, id="no senders"),
        pytest.param({"senders": json({"results": [7]})}, id="no sender"),
        pytest.param({"domains": json({"results": []})}, id="no domains"),
        pytest.param({"domains": json([{"domain": "a.example"}])}, id="a domain without id"),
    ],
)
async def test_what_is_no_answer_is_not_reported(
    nats_url: str, tmp_path: Path, answers: dict[str, Any]
) -> None:
    campaign = EmailCampaign()
    with structlog.testing.capture_logs() as lines:
        async with (
            sendgrid(account(**answers)) as (url, _),
            email_rig(nats_url, tmp_path, campaign=campaign, sendgrid_url=url, checks=True),
        ):
            await eventually(
                lambda: [line for line in lines if line["event"] == "accounts_checked"], 60
            )
    assert not campaign.account_checks
    assert [line["event"] for line in lines if line["event"] == "account_not_checked"]


async def test_one_account_that_fails_keeps_no_other_from_being_checked(
    nats_url: str, tmp_path: Path
) -> None:
    class TwoOrganisations(EmailCampaign):
        async def ListProviderAccounts(  # noqa: N802 - the RPC's name
            self, request: delivery_pb2.ListProviderAccountsRequest, context: Any
        ) -> delivery_pb2.ListProviderAccountsResponse:
            ids = [str(uuid4()), str(self.organisation_id)]
            return delivery_pb2.ListProviderAccountsResponse(organisation_ids=ids)

    campaign = TwoOrganisations()
    async with (
        sendgrid(account()) as (url, _),
        email_rig(nats_url, tmp_path, campaign=campaign, sendgrid_url=url, checks=True),
    ):
        assert (await first_check(campaign)).organisation_id == str(campaign.organisation_id)
