"""SendGrid's event webhook: what is stored and reported, and everything that is refused."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import grpc
import nats
import orjson
import pytest
import structlog
from structlog.typing import EventDict

from outreach.internal.v1 import delivery_pb2
from outreach.local.embedded import EmbeddedNats
from outreach.sending.attempt_token import TokenKey
from outreach.sending.inbox import PUBLISHES_MAX
from outreach.vocabulary import FailureReason
from services.sandbox.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookKey
from tests.email_webhook_rig import EmailCampaign, EmailRig, email_rig
from tests.waiting import eventually

ADDRESS = b"@example.com"


@pytest.fixture
async def rig(nats_url: str, tmp_path: Path) -> AsyncIterator[EmailRig]:
    async with email_rig(nats_url, tmp_path) as rig:
        yield rig


def taken(lines: list[EventDict]) -> EventDict:
    """The one line about a post."""
    (line,) = lines
    assert line["event"] == "events_taken"
    return line


async def test_events_become_reports(rig: EmailRig) -> None:
    rig.campaign.add_sent(6)
    said = "550 5.1.1 <somebody-4@example.com> unknown"
    with structlog.testing.capture_logs() as lines:
        status = await rig.post_events(
            rig.event("processed", 1),
            rig.event("deferred", 2, response="451 try somebody-2@example.com later", attempt="3"),
            rig.event("delivered", 3, response="250 OK", tls=1),
            rig.event("bounce", 4, reason=said, status="5.1.1", type="bounce"),
            rig.event("dropped", 5, reason="Unsubscribed Address"),
            rig.event("open", 6, useragent="Mozilla/5.0", ip="203.0.113.40", sg_machine_open=True),
        )
    assert status == 204
    await rig.becomes(SENT=1, RETRYING=1, DELIVERED=2, FAILED=1, OPTED_OUT=1)
    bounced = rig.campaign.messages[4].last
    assert bounced is not None
    assert bounced.failure_reason == int(FailureReason.INVALID_RECIPIENT)
    assert bounced.provider_code == "bounce/5.1.1"
    assert bounced.provider_message_id == "14c5d75ce93.dfd.64b469.4"
    line = taken(lines)
    assert (line["events"], line["stored"], line["unknown"], line["ignored"]) == (6, 6, 0, 0)
    assert "example.com" not in str(lines)
    assert "203.0.113.40" not in str(lines)


async def test_what_is_stored_has_no_recipient_and_no_text_in_it(rig: EmailRig) -> None:
    connection = await nats.connect(rig.nats_url)
    try:
        spy = await connection.subscribe("outreach.inbox.>")
        assert (
            await rig.post_events(
                rig.event("bounce", 1, reason="550 5.2.2 secret@example.com full", type="blocked"),
                rig.event("dropped", 2, reason="Bounced Address"),
                rig.event("dropped", 3, reason="secret@example.com is not wanted"),
                rig.event("delivered", 4, response="250 secret@example.com OK"),
                rig.event("click", 5, url="https://example.com/?who=secret", ip="203.0.113.40"),
                rig.event("spamreport", 6),
            )
            == 204
        )
        message = await spy.next_msg(timeout=60)
        assert message.subject == "outreach.inbox.email"
        assert ADDRESS not in message.data
        assert b"secret" not in message.data
        assert b"203.0.113.40" not in message.data
        fields = [entry["fields"] for entry in orjson.loads(message.data)]
        ids = [{"sg_message_id": f"14c5d75ce93.dfd.64b469.{number}"} for number in range(1, 7)]
        assert fields == [
            {"event": "bounce", "type": "blocked", "status": "5.2.2", **ids[0]},
            {"event": "dropped", "reason": "Bounced Address", **ids[1]},
            {"event": "dropped", **ids[2]},
            {"event": "delivered", **ids[3]},
            {"event": "click", **ids[4]},
            {"event": "spamreport", **ids[5]},
        ]
    finally:
        await connection.close()


HASH = bytes(range(16))


@pytest.mark.parametrize("said", [None, "", 7, HASH.hex().upper(), HASH.hex()[:-1], "0" * 33])
async def test_an_opt_out_without_a_hash_is_of_the_message(rig: EmailRig, said: object) -> None:
    """As in the events of emails sent before their hash went with them."""
    hashes = {} if said is None else {"recipient_hash": said}
    assert await rig.post_events(rig.event("unsubscribe", 7, **hashes)) == 204
    await eventually(lambda: rig.campaign.opt_outs, 60, "the opt-out")
    (opt_out,) = rig.campaign.opt_outs
    assert (opt_out.number, opt_out.recipient_hash) == (7, b"")
    assert opt_out.campaign_id == str(rig.campaign.campaign_id)


@pytest.mark.parametrize(
    ("kind", "action", "source"),
    [
        ("spamreport", delivery_pb2.OPT_OUT_ACTION_ADD, "spam_report"),
        ("unsubscribe", delivery_pb2.OPT_OUT_ACTION_ADD, "provider"),
        ("group_unsubscribe", delivery_pb2.OPT_OUT_ACTION_ADD, "provider"),
        ("group_resubscribe", delivery_pb2.OPT_OUT_ACTION_REMOVE, "provider"),
    ],
)
async def test_events_that_opt_out_or_in(
    rig: EmailRig, kind: str, action: delivery_pb2.OptOutAction.ValueType, source: str
) -> None:
    at = int(time.time()) - 600
    event = rig.event(kind, 7, timestamp=at, recipient_hash=HASH.hex())
    assert await rig.post_events(event) == 204
    await eventually(lambda: rig.campaign.opt_outs, 60, "the opt-out")
    (opt_out,) = rig.campaign.opt_outs
    assert (opt_out.action, opt_out.source) == (action, source)
    assert opt_out.recipient_hash == HASH
    assert not opt_out.campaign_id
    assert opt_out.organisation_id == str(rig.campaign.organisation_id)
    assert opt_out.time.seconds == at, "when it happened, so that late ones do not win"
    assert not opt_out.recipient


async def test_an_event_from_the_future_happened_now(rig: EmailRig) -> None:
    """Else it would win over every opt-out and opt-in until then."""
    assert (
        await rig.post_events(rig.event("unsubscribe", timestamp=int(time.time()) + 9_999)) == 204
    )
    await eventually(lambda: rig.campaign.opt_outs, 60, "the opt-out")
    assert rig.campaign.opt_outs[0].time.seconds <= time.time()


async def test_a_bounce_after_delivery_wins_in_any_order(rig: EmailRig) -> None:
    rig.campaign.add_sent(3)
    bounce = {"type": "bounce", "bounce_classification": "Mailbox Unavailable"}
    assert (
        await rig.post_events(
            rig.event("bounce", 1, **bounce), rig.event("delivered", 1), rig.event("open", 1)
        )
        == 204
    )
    assert await rig.post_events(rig.event("delivered", 2)) == 204
    assert await rig.post_events(rig.event("bounce", 2, **bounce)) == 204
    assert await rig.post_events(rig.event("bounce", 3, **bounce)) == 204
    assert await rig.post_events(rig.event("delivered", 3), rig.event("processed", 3)) == 204
    await rig.becomes(FAILED=3)
    for message in rig.campaign.messages.values():
        assert message.last is not None
        assert message.last.failure_reason == int(FailureReason.MAILBOX_UNAVAILABLE)


async def test_events_that_lack_what_may_be_missing(rig: EmailRig) -> None:
    rig.campaign.add_sent(4)
    bare = {"event": "bounce", "attempt_id": rig.attempt(1)}
    dropped = {"event": "dropped", "attempt_id": rig.attempt(2), "reason": "Invalid"}
    late = {"event": "bounce", "attempt_id": rig.attempt(3), "type": "bounce", "status": "5.1.1"}
    odd = {
        "event": "delivered",
        "attempt_id": rig.attempt(4),
        "sg_message_id": ["not", "a", "text"],
        "sg_event_id": 7,
        "timestamp": "1513299569",
    }
    with structlog.testing.capture_logs() as lines:
        assert await rig.post_events(bare, dropped, late, odd) == 204
    assert taken(lines)["stored"] == 4
    await rig.becomes(FAILED=3, DELIVERED=1)
    reasons = [rig.campaign.messages[number].last for number in (1, 2, 3)]
    assert [FailureReason(last.failure_reason) for last in reasons if last] == [
        FailureReason.OTHER,
        FailureReason.INVALID_RECIPIENT,
        FailureReason.INVALID_RECIPIENT,
    ]


async def test_events_that_are_nobodys_are_counted_and_left(rig: EmailRig) -> None:
    rig.campaign.add_sent(1)
    campaign = rig.campaign
    stranger = TokenKey("another key of at least 32 characters").sign_attempt(
        campaign.organisation_id.bytes, campaign.campaign_id.bytes, 1, 1
    )
    of_another_organisation = rig.token_key.sign_attempt(
        uuid4().bytes, campaign.campaign_id.bytes, 1, 1
    )
    unknown: list[object] = [None, 7, [], {}, "", "A" * 5_000, "é", rig.attempt()[:-1], stranger]
    events = [rig.event("bounce", attempt_id=token) for token in unknown]
    without = rig.event("bounce")
    del without["attempt_id"]
    foreign = rig.event("bounce", attempt_id=of_another_organisation)
    ignored: list[object] = [
        7,
        None,
        [],
        {},
        {"event": 7},
        {"event": ["bounce"]},
        rig.event("levitated"),
        {"event": "account_status_change", "type": "compliance_suspend", "timestamp": 1},
        {"event": "account_status_change", "type": "mail somebody@example.com"},
    ]
    with structlog.testing.capture_logs() as lines:
        assert (
            await rig.post_events(*events, without, foreign, *ignored, rig.event("delivered"))
            == 204
        )
    line = taken(lines)
    assert (line["unknown"], line["ignored"], line["stored"]) == (11, 9, 1)
    assert line["account_status"] == "compliance_suspend"
    assert "example.com" not in str(lines)
    await rig.becomes(DELIVERED=1)


async def test_a_repeated_event_is_answered_and_not_stored_again(
    nats_url: str, tmp_path: Path
) -> None:
    async with email_rig(nats_url, tmp_path, forwards=False) as rig:
        events = [rig.event("processed", number) for number in range(1, 11)]
        assert await rig.post_events(*events) == 204
        assert await rig.stored() == 1
        with structlog.testing.capture_logs() as lines:
            assert await rig.post_events(*events) == 204
        assert (taken(lines)["stored"], taken(lines)["repeated"]) == (0, 10)
        assert await rig.stored() == 1
        assert await rig.post_events(*events, rig.event("delivered")) == 204
        assert await rig.stored() == 2
        nameless = rig.event("delivered", sg_event_id="")
        assert await rig.post_events(nameless) == 204
        other = rig.event("bounce", sg_event_id="")
        assert await rig.post_events(other) == 204
        assert await rig.stored() == 4, "what has no id is stored each time"


async def test_a_repetition_that_is_not_recognised_changes_nothing(
    nats_url: str, tmp_path: Path
) -> None:
    """The memory of ids belongs to a process; after a restart they are stored again."""
    campaign = EmailCampaign()
    campaign.add_sent(1)
    async with email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        key = rig.webhook_key
        bounced = rig.event("bounce", type="bounce", status="5.1.1")
        assert await rig.post_events(rig.event("delivered"), bounced) == 204
        await rig.becomes(FAILED=1)
    async with email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        rig.webhook_key = key
        batches = len(campaign.batches)
        assert await rig.post_events(rig.event("delivered")) == 204
        await eventually(lambda: len(campaign.batches) > batches, 60, "reported again")
        await rig.none_stored()
        assert campaign.statuses() == {"FAILED": 1}


async def test_forged_posts_are_refused(rig: EmailRig) -> None:
    body = orjson.dumps([rig.event("delivered")])
    good = rig.signed(body)
    signature, timestamp = good[SIGNATURE_HEADER], good[TIMESTAMP_HEADER]
    other = WebhookKey(None)
    with structlog.testing.capture_logs() as lines:
        for changed in (
            {SIGNATURE_HEADER: ""},
            {SIGNATURE_HEADER: "no base64!"},
            {SIGNATURE_HEADER: "é"},
            {SIGNATURE_HEADER: "AAAA" + signature[4:]},
            {SIGNATURE_HEADER: signature * 10},
            {SIGNATURE_HEADER: other.sign(timestamp, body)},
            {TIMESTAMP_HEADER: str(int(timestamp) + 1)},
            {TIMESTAMP_HEADER: ""},
        ):
            assert await rig.post(rig.events_path, body, {**good, **changed}) == 403, changed
        assert await rig.post(rig.events_path, body, {}) == 403
        assert await rig.post(rig.events_path, body + b"\r\n", good) == 403
        assert await rig.post(rig.events_path, body[:-9], good) == 403, "truncated on its way"
    assert [line["event"] for line in lines] == ["webhook_forged"] * 11
    assert await rig.post(rig.events_path, body, good) == 204
    assert await rig.stored() <= 1


async def test_stale_posts_are_refused_and_replays_within_the_window_are_not(
    rig: EmailRig,
) -> None:
    rig.campaign.add_sent(1)
    body = orjson.dumps([rig.event("delivered")])
    now = time.time()
    for at in (now - 25 * 3600 - 60, now + 360, 0, now * 1_000):
        assert await rig.post(rig.events_path, body, rig.signed(body, at)) == 403, at
    timestamp = "1e9"
    odd = {**rig.signed(body), TIMESTAMP_HEADER: timestamp}
    odd[SIGNATURE_HEADER] = rig.webhook_key.sign(timestamp, body)
    assert await rig.post(rig.events_path, body, odd) == 403
    for at in (now - 25 * 3600 + 60, now + 240):
        headers = rig.signed(body, at)
        assert await rig.post(rig.events_path, body, headers) == 204, at
        assert await rig.post(rig.events_path, body, headers) == 204, "replayed"
    await rig.becomes(DELIVERED=1)


async def test_the_window_is_an_argument(nats_url: str, tmp_path: Path) -> None:
    async with email_rig(nats_url, tmp_path, past_seconds_max=60) as rig:
        body = orjson.dumps([rig.event("delivered")])
        assert await rig.post(rig.events_path, body, rig.signed(body, time.time() - 90)) == 403


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b'[{"event":"deliv', b"null", b"{}", b'"text"', b"\xff\xfe", b"7", b"[" * 100_000],
)
async def test_what_is_signed_and_no_array_is_refused(rig: EmailRig, body: bytes) -> None:
    assert await rig.post(rig.events_path, body, rig.signed(body)) == 400


async def test_an_empty_array_is_answered(rig: EmailRig) -> None:
    """SendGrid's own test of a URL."""
    assert await rig.post_events() == 204
    assert await rig.stored() == 0


async def test_unknown_targets_are_not_found(rig: EmailRig) -> None:
    body = b"[]"
    token = rig.events_path.rpartition("/")[2]
    for path in (
        "/sendgrid/events/",
        f"/sendgrid/events/{token[:-1]}",
        f"/sendgrid/events/{token}A",
        f"/sendgrid/events/{token}/",
        f"/sendgrid/events/{rig.attempt()}",
        "/sendgrid/events/" + "A" * 5_000,
        "/sendgrid/events/%C3%A9",
        f"/sendgrid/{token}",
        "/sendgrid",
        "/",
        f"/sendgrid/events/{rig.token_key.sign_organisation(uuid4())}",
    ):
        assert await rig.post(path, body, rig.signed(body)) == 404, path


async def test_other_methods_are_refused(rig: EmailRig) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        async with rig.session.request(method, rig.url + rig.events_path) as response:
            assert response.status == 405


async def test_a_huge_array_is_taken_whole(rig: EmailRig) -> None:
    """Far more than SendGrid puts into one post, in messages that NATS takes."""
    count = 8_000
    rig.campaign.add_sent(count)
    rig.campaign.keep_batches = False
    connection = await nats.connect(rig.nats_url)
    try:
        spy = await connection.subscribe("outreach.inbox.email")
        with structlog.testing.capture_logs() as lines:
            assert (
                await rig.post_events(
                    *(rig.event("delivered", number) for number in range(1, count + 1))
                )
                == 204
            )
        assert taken(lines)["stored"] == count
        sizes: list[int] = []
        while sum(sizes) < count:
            message = await spy.next_msg(timeout=60)
            assert len(message.data) < 1_000_000
            sizes.append(len(orjson.loads(message.data)))
        assert max(sizes) == 1_000
        assert len(sizes) == 8
    finally:
        await connection.close()
    await rig.becomes(DELIVERED=count)
    await rig.none_stored()


async def test_many_opt_outs_are_no_batch_without_end(rig: EmailRig) -> None:
    events = [rig.event("unsubscribe", number) for number in range(1, 3_001)]
    assert await rig.post_events(*events) == 204
    await eventually(lambda: len(rig.campaign.opt_outs) == 3_000, 240, "all opt-outs")
    assert max(len(batch.opt_outs) for batch in rig.campaign.batches) <= 500


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(rig: EmailRig) -> None:
    body = b"[" + b" " * (4 * 1024 * 1024) + b"]"
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1
            yield b" " * 100_000

    for data in (io.BytesIO(body), endless()):
        async with (
            aiohttp.ClientSession() as session,  # ends its connection here, not with the endpoint
            session.post(
                rig.url + rig.events_path, data=data, headers=rig.signed(body)
            ) as response,
        ):
            assert response.status == 413
    assert sent < 400
    assert await rig.stored() == 0


async def test_an_upload_that_is_cut_leaves_nothing_and_no_trace_of_its_content(
    rig: EmailRig, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    body = orjson.dumps([rig.event("delivered")])
    host, _, port = rig.url.rpartition("//")[2].partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = [f"POST {rig.events_path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in rig.signed(body).items()]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body[:-20])
    await writer.drain()
    with structlog.testing.capture_logs() as lines:
        writer.close()
        await writer.wait_closed()
        assert await rig.post_events(rig.event("processed")) == 204  # the endpoint goes on
    assert "example.com" not in str(lines) + caplog.text + "".join(capfd.readouterr())
    assert "Traceback" not in caplog.text


async def test_without_nats_events_are_put_off_and_stored_when_they_come_again(
    tmp_path: Path,
) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    async with server, email_rig(server.url, tmp_path) as rig:
        rig.campaign.add_sent(2)
        assert await rig.post_events(rig.event("delivered", 1)) == 204
        await rig.becomes(SENDING=1, DELIVERED=1)
        await server.stop()
        with structlog.testing.capture_logs() as lines:
            assert await rig.post_events(rig.event("delivered", 2)) == 503
        assert "example.com" not in str(lines)
        await server.start()

        async def again() -> bool:
            return await rig.post_events(rig.event("delivered", 2)) == 204

        await eventually(again, 60, "stored when it comes again")
        await rig.becomes(DELIVERED=2)


async def test_without_the_account_events_are_put_off(rig: EmailRig) -> None:
    rig.campaign.account_fault = grpc.StatusCode.UNAVAILABLE
    assert await rig.post_events(rig.event("delivered")) == 503
    rig.campaign.account_fault = None
    rig.campaign.add_sent(1)
    assert await rig.post_events(rig.event("delivered")) == 204
    await rig.becomes(DELIVERED=1)


@pytest.mark.parametrize("key", ["no key", "AAAA", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"])
async def test_with_an_unusable_key_events_are_put_off(rig: EmailRig, key: str) -> None:
    """Not refused: for 24 hours the key can be put right."""
    rig.campaign.sendgrid.webhook_public_key = key
    rig.accounts.forget(rig.campaign.organisation_id)
    with structlog.testing.capture_logs() as lines:
        assert await rig.post_events(rig.event("delivered")) == 503
    assert [line["event"] for line in lines] == ["webhook_key_unusable"]
    assert key not in str(lines)


async def test_health_is_asked_for_at_the_same_endpoint(rig: EmailRig) -> None:
    async with rig.session.get(f"{rig.url}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok", "faults": []})


async def test_many_posts_at_once_share_their_publishes(rig: EmailRig) -> None:
    rig.campaign.add_sent(200)
    connection = await nats.connect(rig.nats_url)
    try:
        spy = await connection.subscribe("outreach.inbox.email")
        for _ in range(PUBLISHES_MAX):  # as while JetStream is slow
            await rig.inbox._publishing.acquire()
        posting = [
            asyncio.create_task(rig.post_events(rig.event("delivered", number)))
            for number in range(1, 201)
        ]
        await eventually(lambda: rig.inbox._entries_waiting >= 100)
        for _ in range(PUBLISHES_MAX):
            rig.inbox._publishing.release()
        answers = await asyncio.gather(*posting)
        assert set(answers) == {204}
        await rig.becomes(DELIVERED=200)
        assert 0 < spy.pending_msgs < 150
    finally:
        await connection.close()


async def test_the_session_of_a_stranger_costs_no_account_look_up(rig: EmailRig) -> None:
    """A token is checked before anything is read or asked for."""
    async with aiohttp.ClientSession() as session:
        for _ in range(20):
            async with session.post(f"{rig.url}/sendgrid/events/x", data=b"x" * 10) as response:
                assert response.status == 404
    assert rig.campaign.account_calls == 0
