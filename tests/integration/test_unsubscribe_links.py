"""Unsubscribe links: mail providers, people, link scanners, and those who try."""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import grpc
import pytest
import structlog
from multidict import CIMultiDictProxy

from outreach.internal.v1 import delivery_pb2
from outreach.local.embedded import EmbeddedNats
from outreach.sending.attempt_token import TokenKey
from services.sender_email.unsubscribe_pages import asking
from tests.email_webhook_rig import HASH, EmailRig, email_rig
from tests.sender_rig import commits_waited_for
from tests.waiting import eventually

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def rig(nats_url: str, tmp_path: Path) -> AsyncIterator[EmailRig]:
    async with email_rig(nats_url, tmp_path) as rig:
        yield rig


async def ask(
    rig: EmailRig, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, str, CIMultiDictProxy[str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with rig.session.request(
        method, rig.url + path, data=body or None, headers=named, allow_redirects=False
    ) as response:
        return response.status, await response.text(), response.headers


async def opted_out(rig: EmailRig, count: int = 1) -> None:
    await eventually(lambda: len(rig.campaign.opt_outs) == count, 60, "the opt-out")
    for opt_out in rig.campaign.opt_outs:
        assert opt_out.action == delivery_pb2.OPT_OUT_ACTION_ADD
        assert opt_out.source == "link"
        assert opt_out.recipient_hash == HASH
        assert opt_out.organisation_id == str(rig.campaign.organisation_id)
        assert opt_out.channel == 2
        assert opt_out.time.seconds > 0
        assert not opt_out.recipient
        assert not opt_out.campaign_id


async def test_a_mail_providers_request_unsubscribes(rig: EmailRig) -> None:
    """Byte by byte as in RFC 8058, section 8.1."""
    host, _, port = rig.url.rpartition("//")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {rig.link_path()} HTTP/1.1\r\n"
        "Host: example.com\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        "Content-Length: 26\r\n"
        "\r\n"
        "List-Unsubscribe=One-Click".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    writer.close()
    assert head.startswith("http/1.1 200 ")
    assert "set-cookie" not in head
    assert "location" not in head
    await opted_out(rig)


async def test_it_may_be_multipart(rig: EmailRig) -> None:
    """As in RFC 8058, section 8.2."""
    boundary = "---FormBoundaryjWmhtjORrn"
    body = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="List-Unsubscribe"\r\n\r\n'
        "One-Click\r\n"
        f"--{boundary}--\r\n"
    ).encode()
    content_type = f"multipart/form-data; boundary={boundary}"
    status, _, _ = await ask(rig, "POST", rig.link_path(), body, Content_Type=content_type)
    assert status == 200
    await opted_out(rig)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff\xfe", b"x" * 16_384])
async def test_whatever_is_posted_unsubscribes(rig: EmailRig, body: bytes) -> None:
    status, text, _ = await ask(rig, "POST", rig.link_path(), body, Content_Type=FORM)
    assert status == 200
    assert "You are unsubscribed" in text
    await opted_out(rig)


async def test_a_long_body_is_refused(rig: EmailRig) -> None:
    status, _, _ = await ask(rig, "POST", rig.link_path(), b"x" * 16_385, Content_Type=FORM)
    assert status == 413
    assert await rig.stored() == 0


async def test_a_look_shows_a_button_and_changes_nothing(rig: EmailRig) -> None:
    """Link scanners open every link, several times, and some begin with HEAD."""
    for method in ("HEAD", "GET", "GET"):
        status, text, headers = await ask(
            rig, method, f"{rig.link_path()}?utm_source=scanner", User_Agent="Barracuda/5.0"
        )
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Robots-Tag"] == "noindex, nofollow"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers
        assert ("<button" in text) == (method == "GET")
    assert await rig.stored() == 0
    assert not rig.campaign.opt_outs


class _Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def test_the_page_loads_nothing_and_its_button_posts_what_a_mail_provider_posts(
    rig: EmailRig,
) -> None:
    _, text, headers = await ask(rig, "GET", rig.link_path())
    page = _Page(text)
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("title")) == len(page.of("h1")) == len(page.of("main")) == 1
    assert page.of("form") == [{"method": "post"}], "to the page's own address"
    assert page.of("button") == [
        {"type": "submit", "name": "List-Unsubscribe", "value": "One-Click"}
    ]
    assert not {"script", "img", "link", "iframe", "a"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//|url\(|@import", text)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    body = b"List-Unsubscribe=One-Click"
    status, text, _ = await ask(rig, "POST", rig.link_path(), body, Content_Type=FORM)
    assert status == 200
    confirmed = _Page(text)
    assert not confirmed.of("form")
    assert {"role": "status"} in confirmed.of("p")
    await opted_out(rig)


async def test_a_token_used_twice_opts_out_twice(rig: EmailRig) -> None:
    """In between the recipient may have opted in again, so a repetition is not left out."""
    for _ in range(2):
        status, _, _ = await ask(rig, "POST", rig.link_path())
        assert status == 200
    await opted_out(rig, 2)


async def test_it_works_when_campaign_and_account_are_gone(rig: EmailRig) -> None:
    rig.campaign.has_account = False
    rig.campaign.account_fault = grpc.StatusCode.UNAVAILABLE
    status, _, _ = await ask(rig, "POST", rig.link_path(number=999))
    assert status == 200
    await opted_out(rig)


async def test_it_is_committed_when_it_is_answered(rig: EmailRig) -> None:
    """JetStream may forget what it has acknowledged, and nobody would tell of this one again."""
    for times in range(1, 4):
        assert (await ask(rig, "POST", rig.link_path()))[0] == 200
        assert len(rig.campaign.opt_outs) == times


async def test_while_commits_take_long_it_is_stored_and_answered(rig: EmailRig) -> None:
    await rig.none_stored()
    rig.campaign.acknowledge.clear()
    async with commits_waited_for(1.0):
        assert (await ask(rig, "POST", rig.link_path()))[0] == 200
    assert await rig.stored() == 2, "the opt-out, and what the provider is told"
    rig.campaign.acknowledge.set()
    await eventually(lambda: len(rig.campaign.opt_outs) == 2, 60, "both ways; harmless")


async def test_without_a_stream_it_is_stored_and_answered(nats_url: str, tmp_path: Path) -> None:
    async with email_rig(nats_url, tmp_path, forwards=False) as rig:
        assert (await ask(rig, "POST", rig.link_path()))[0] == 200
        assert await rig.stored() == 2


async def test_forged_links_are_not_found(rig: EmailRig) -> None:
    token = rig.link_path().rpartition("/")[2]
    campaign = rig.campaign
    stranger = TokenKey("another key of at least 32 characters").sign_unsubscribe(
        campaign.organisation_id.bytes, campaign.campaign_id.bytes, 1, HASH
    )
    for path in (
        "/unsubscribe/",
        f"/unsubscribe/{token[:-1]}",
        f"/unsubscribe/{token}A",
        f"/unsubscribe/{token}/",
        f"/unsubscribe/{stranger}",
        f"/unsubscribe/{rig.attempt()}",
        "/unsubscribe/" + "A" * 5_000,
        "/unsubscribe/%C3%A9",
        "/unsubscribe/%3Cscript%3E",
    ):
        for method in ("GET", "HEAD", "POST"):
            status, text, headers = await ask(rig, method, path)
            assert status == 404, (method, path)
            assert headers["Content-Security-Policy"]
            assert "script" not in text
            assert method == "HEAD" or "This link does not work" in text
    assert (await ask(rig, "GET", "/unsubscribe"))[0] == 404
    assert await rig.stored() == 0


async def test_other_methods_are_refused(rig: EmailRig) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        status, _, headers = await ask(rig, method, rig.link_path())
        assert status == 405
        assert headers["Allow"] == "GET, HEAD, POST"
    assert await rig.stored() == 0


async def test_the_log_says_which_organisation_and_not_who(rig: EmailRig) -> None:
    with structlog.testing.capture_logs() as lines:
        await ask(rig, "POST", rig.link_path(), User_Agent="somebody@example.com")
        await opted_out(rig)
    assert [line["event"] for line in lines] == ["unsubscribed"]
    assert lines[0]["organisation_id"] == str(rig.campaign.organisation_id)
    assert lines[0]["campaign_id"] == str(rig.campaign.campaign_id)
    for secret in (HASH.hex(), "example.com", rig.link_path().rpartition("/")[2]):
        assert secret not in str(lines)


async def test_without_nats_it_is_put_off_and_said(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    async with server, email_rig(server.url, tmp_path) as rig:
        await server.stop()
        status, text, headers = await ask(rig, "POST", rig.link_path())
        assert status == 503
        assert headers["Retry-After"] == "60"
        assert "try again" in text
        status, _, _ = await ask(rig, "GET", rig.link_path())
        assert status == 200
        await server.start()

        async def again() -> bool:
            return (await ask(rig, "POST", rig.link_path()))[0] == 200

        await eventually(again, 60, "stored when it comes again")
        await opted_out(rig, len(rig.campaign.opt_outs))
        assert rig.campaign.opt_outs, "committed each time"


def test_the_style_is_the_one_that_the_policy_permits() -> None:
    page = asking()
    assert isinstance(page.body, bytes)
    (style,) = re.findall(rb"<style>(.*?)</style>", page.body, re.DOTALL)
    digest = b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["Content-Security-Policy"]
