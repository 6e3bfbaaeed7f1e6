"""Twilio's webhooks: what is stored and reported, and everything that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import nats
import orjson
import pytest
import structlog
from twilio.request_validator import RequestValidator

from outreach.internal.v1 import delivery_pb2
from outreach.local.embedded import EmbeddedNats
from outreach.sending.attempt_token import TokenKey
from tests.sender_rig import TOKEN_KEY, Rig, commits_waited_for, sender_rig
from tests.waiting import eventually

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def rig(nats_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    async with sender_rig(nats_url, tmp_path) as rig:
        await eventually(lambda: rig.campaign.instances, 60, "a stream")
        await rig.jobs.ready()
        yield rig


class Caller:
    """Calls the endpoint as Twilio does."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.public = rig.settings.sender_sms_webhook_url
        # the endpoint itself has no prefix: a proxy in front of it has taken it off
        self.local = f"http://127.0.0.1:{rig.settings.sender_sms_http_port}"
        self.key = TokenKey(TOKEN_KEY)

    def status_path(self, number: int = 1, attempt: int = 1) -> str:
        campaign = self.rig.campaign
        token = self.key.sign_attempt(
            campaign.organisation_id.bytes, campaign.campaign_id.bytes, number, attempt
        )
        return f"/twilio/status/{token}"

    def inbound_path(self) -> str:
        return f"/twilio/inbound/{self.key.sign_organisation(self.rig.campaign.organisation_id)}"

    def signature(self, path: str, fields: dict[str, str]) -> str:
        validator = RequestValidator(self.rig.campaign.auth_token)
        return str(validator.compute_signature(self.public + path, fields))

    async def post(self, path: str, fields: dict[str, str], *, signature: str | None = None) -> int:
        signed = self.signature(path, fields) if signature is None else signature
        return await self.raw(path, urlencode(fields).encode(), {"X-Twilio-Signature": signed})

    async def raw(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        headers = {"Content-Type": FORM, **headers}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.local + path, data=body, headers=headers) as response,
        ):
            assert await response.read() == b""
            return response.status


def status_fields(status: str, **more: str) -> dict[str, str]:
    return {
        "MessageSid": "SM0001",
        "SmsSid": "SM0001",
        "MessageStatus": status,
        "To": "+41790000001",
        "From": "+15005550006",
        "Blank": "",
        **more,
    }


async def _sent(rig: Rig) -> None:
    await rig.send(1)
    await eventually(lambda: rig.campaign.statuses() == {"SENT": 1}, 60, "sent")


async def test_a_receipt_becomes_a_report(rig: Rig) -> None:
    await _sent(rig)
    caller = Caller(rig)
    assert await caller.post(caller.status_path(), status_fields("delivered")) == 204
    await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 1}, 60, "delivered")


async def test_an_entry_stays_stored_until_its_report_is_committed(rig: Rig, nats_url: str) -> None:
    await _sent(rig)
    rig.campaign.acknowledge.clear()
    caller = Caller(rig)
    assert await caller.post(caller.status_path(), status_fields("delivered")) == 204
    connection = await nats.connect(nats_url)
    try:
        jetstream = connection.jetstream()

        async def stored() -> int:
            return int((await jetstream.stream_info("OUTREACH_INBOX")).state.messages)

        async def forwarded() -> bool:
            consumer = await jetstream.consumer_info("OUTREACH_INBOX", "sms-inbox")
            return consumer.delivered is not None and consumer.delivered.consumer_seq >= 1

        await eventually(forwarded, 60, "the sender has taken it")
        rig.campaign.cut_streams()  # time enough for an acknowledgement, and reports told again
        await eventually(lambda: len(rig.campaign.instances) == 2, 60, "reconnected")
        assert await stored() == 1
        rig.campaign.acknowledge.set()
        await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 1}, 60, "committed")

        async def nothing_stored() -> bool:
            return await stored() == 0

        await eventually(nothing_stored, 60, "acknowledged")
    finally:
        await connection.close()


async def test_a_failure_goes_by_the_code_and_keeps_it(rig: Rig) -> None:
    await _sent(rig)
    caller = Caller(rig)
    fields = status_fields("undelivered", ErrorCode="30007")
    assert await caller.post(caller.status_path(), fields) == 204
    await eventually(lambda: rig.campaign.statuses() == {"FAILED": 1}, 60, "failed")
    report = rig.campaign.messages[1].last
    assert report is not None
    assert report.provider_code == "30007"


async def test_a_replay_changes_nothing_and_is_answered(rig: Rig) -> None:
    await _sent(rig)
    caller = Caller(rig)
    for status in ("sent", "delivered", "sent", "delivered", "queued"):
        assert await caller.post(caller.status_path(), status_fields(status)) == 204
    await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 1}, 60, "delivered")


async def test_what_is_stored_has_no_recipient_in_it(rig: Rig, nats_url: str) -> None:
    caller = Caller(rig)
    connection = await nats.connect(nats_url)
    try:
        spy = await connection.subscribe("outreach.inbox.>")
        assert await caller.post(caller.status_path(), status_fields("sent")) == 204
        message = await spy.next_msg(timeout=60)
        assert b"4179" not in message.data
        assert message.subject == "outreach.inbox.sms"
        (entry,) = orjson.loads(message.data)
        assert entry["fields"] == {"MessageSid": "SM0001", "MessageStatus": "sent"}
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"Body": " stop "}, delivery_pb2.OPT_OUT_ACTION_ADD),
        ({"Body": "Revoke"}, delivery_pb2.OPT_OUT_ACTION_ADD),
        ({"Body": "START"}, delivery_pb2.OPT_OUT_ACTION_REMOVE),
        ({"Body": "no more", "OptOutType": "STOP"}, delivery_pb2.OPT_OUT_ACTION_ADD),
        ({"Body": "again", "OptOutType": "START"}, delivery_pb2.OPT_OUT_ACTION_REMOVE),
    ],
)
async def test_stop_and_start_are_reported(
    rig: Rig, fields: dict[str, str], action: delivery_pb2.OptOutAction.ValueType
) -> None:
    caller = Caller(rig)
    inbound = {"MessageSid": "SM9", "From": "+41790000009", "To": "+15005550006", **fields}
    assert await caller.post(caller.inbound_path(), inbound) == 204
    await eventually(lambda: rig.campaign.opt_outs, 60, "the opt-out")
    (opt_out,) = rig.campaign.opt_outs
    assert opt_out.recipient == "+41790000009"
    assert opt_out.action == action
    assert opt_out.organisation_id == str(rig.campaign.organisation_id)
    assert opt_out.time.seconds > 0
    assert opt_out.source == "reply"


def reply(body: str, sid: str = "SM9") -> dict[str, str]:
    return {"MessageSid": sid, "From": "+41790000009", "To": "+15005550006", "Body": body}


async def _stored(nats_url: str) -> int:
    connection = await nats.connect(nats_url)
    try:
        return int((await connection.jetstream().stream_info("OUTREACH_INBOX")).state.messages)
    finally:
        await connection.close()


async def test_a_reply_is_committed_when_it_is_answered(rig: Rig) -> None:
    """JetStream may forget what it has acknowledged, and nobody replies STOP twice."""
    caller = Caller(rig)
    for times, word in enumerate(("STOP", "START", "STOP"), 1):
        assert await caller.post(caller.inbound_path(), reply(word, f"SM{times}")) == 204
        assert len(rig.campaign.opt_outs) == times


async def test_a_reply_that_is_posted_again_changes_nothing(rig: Rig) -> None:
    caller = Caller(rig)
    for fields in (reply("START", "SM1"), reply("STOP", "SM2"), reply("START", "SM1")):
        assert await caller.post(caller.inbound_path(), fields) == 204
    assert [opt_out.action for opt_out in rig.campaign.opt_outs] == [
        delivery_pb2.OPT_OUT_ACTION_REMOVE,
        delivery_pb2.OPT_OUT_ACTION_ADD,
    ]


async def test_a_reply_is_known_again_by_what_twilio_has_signed(rig: Rig) -> None:
    """Headers are not: whoever posts an old START with another one must not undo a STOP."""
    caller = Caller(rig)
    path = caller.inbound_path()
    for word, sid, header in (
        ("START", "SM1", "one"),
        ("STOP", "SM2", "two"),
        ("START", "SM1", "three"),
    ):
        fields = reply(word, sid)
        headers = {
            "X-Twilio-Signature": caller.signature(path, fields),
            "I-Twilio-Idempotency-Token": header,
        }
        assert await caller.raw(path, urlencode(fields).encode(), headers) == 204
    assert [opt_out.action for opt_out in rig.campaign.opt_outs] == [
        delivery_pb2.OPT_OUT_ACTION_REMOVE,
        delivery_pb2.OPT_OUT_ACTION_ADD,
    ]


async def test_while_commits_take_long_a_reply_is_stored_and_answered(
    rig: Rig, nats_url: str
) -> None:
    rig.campaign.acknowledge.clear()
    caller = Caller(rig)
    async with commits_waited_for(1.0):
        assert await caller.post(caller.inbound_path(), reply("STOP")) == 204
    assert await _stored(nats_url) == 1
    rig.campaign.acknowledge.set()
    await eventually(lambda: len(rig.campaign.opt_outs) == 2, 60, "both ways; harmless")


async def test_a_reply_needs_one_of_nats_and_the_campaign_service(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    async with server, sender_rig(server.url, tmp_path, sender_drain_seconds_max=0.5) as rig:
        await eventually(lambda: rig.campaign.instances, 60, "a stream")
        await rig.jobs.ready()
        caller = Caller(rig)
        await server.stop()
        assert await caller.post(caller.inbound_path(), reply("STOP", "SM1")) == 204
        assert len(rig.campaign.opt_outs) == 1, "its commit needs no NATS"
        rig.campaign.acknowledge.clear()
        async with commits_waited_for(1.0):
            assert await caller.post(caller.inbound_path(), reply("STOP", "SM2")) == 503
        rig.campaign.acknowledge.set()


async def test_other_inbound_messages_are_taken_and_left(rig: Rig) -> None:
    caller = Caller(rig)
    inbound = {"MessageSid": "SM9", "From": "+41790000009", "Body": "please stop calling"}
    assert await caller.post(caller.inbound_path(), inbound) == 204
    stop = {"MessageSid": "SM10", "From": "+41790000010", "Body": "STOP"}
    assert await caller.post(caller.inbound_path(), stop) == 204
    await eventually(lambda: rig.campaign.opt_outs, 60, "the second one")
    assert [opt_out.recipient for opt_out in rig.campaign.opt_outs] == ["+41790000010"]


async def test_forged_webhooks_are_refused(rig: Rig) -> None:
    caller = Caller(rig)
    path, fields = caller.status_path(), status_fields("delivered")
    good = caller.signature(path, fields)
    assert await caller.post(path, fields, signature="AAAA" + good[4:]) == 403
    assert await caller.post(path, fields, signature="") == 403
    assert await caller.post(path, {**fields, "MessageStatus": "failed"}, signature=good) == 403
    assert await caller.post(path, {**fields, "Added": ""}, signature=good) == 403
    assert await caller.post(caller.status_path(2), fields, signature=good) == 403
    assert await caller.post(path, fields, signature="é" * 28) == 403
    assert rig.campaign.batches == []


async def test_what_is_no_http_is_one_line_without_its_content(
    rig: Rig, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.settings.sender_sms_http_port)
    writer.write(b"GARBAGE From=+14155550199&Body=secret\x00\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    with structlog.testing.capture_logs() as lines:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", rig.settings.sender_sms_http_port
        )
        writer.write(b"POST / HTTP/1.1\r\nBad Header\x01: From=+14155550199\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert [line["event"] for line in lines] == ["webhook_unreadable"]
    assert "+14155550199" not in str(lines) + caplog.text + "".join(capfd.readouterr())


async def test_unknown_targets_are_not_found(rig: Rig) -> None:
    caller = Caller(rig)
    fields = status_fields("delivered")
    token = caller.status_path().rpartition("/")[2]
    other = TokenKey("another key of at least 32 characters")
    campaign = rig.campaign
    stranger = other.sign_attempt(campaign.organisation_id.bytes, campaign.campaign_id.bytes, 1, 1)
    unknown_organisation = caller.key.sign_attempt(
        campaign.campaign_id.bytes, campaign.campaign_id.bytes, 1, 1
    )
    for path in (
        "/twilio/status/",
        f"/twilio/status/{token[:-1]}",
        f"/twilio/status/{token}A",
        f"/twilio/status/{stranger}",
        f"/twilio/status/{unknown_organisation}",
        f"/twilio/inbound/{token}",
        "/twilio/status/" + "A" * 5_000,
        "/twilio/status/%C3%A9",
        "/",
        "/twilio",
    ):
        assert await caller.post(path, fields, signature="c2lnbmF0dXJl") == 404, path


async def test_malformed_webhooks_are_refused(rig: Rig) -> None:
    caller = Caller(rig)
    path = caller.status_path()
    signed = {"X-Twilio-Signature": "c2lnbmF0dXJl"}
    assert await caller.raw(path, b"{}", {**signed, "Content-Type": "application/json"}) == 400
    assert await caller.raw(path, b"MessageSid=%FF%FE&x=1", signed) == 400
    assert await caller.raw(path, "é=1".encode(), signed) == 400
    assert await caller.raw(path, b"no pairs at all", signed) == 400
    assert await caller.raw(path, b"&".join(b"a=1" for _ in range(500)), signed) == 400
    for missing in ("MessageSid", "MessageStatus"):
        fields = status_fields("delivered")
        del fields[missing]
        assert await caller.post(path, fields) == 400


async def test_huge_webhooks_are_refused_before_they_are_read(rig: Rig) -> None:
    caller = Caller(rig)
    signed = {"X-Twilio-Signature": "c2lnbmF0dXJl"}
    assert await caller.raw(caller.status_path(), b"a=" + b"x" * 70_000, signed) == 413

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a=" + b"x" * 4_000 + b"&"

    async with (
        aiohttp.ClientSession() as session,
        session.post(
            caller.local + caller.status_path(),
            data=endless(),
            headers={"Content-Type": FORM, **signed},
        ) as response,
    ):
        assert response.status == 413


async def test_other_methods_are_refused(rig: Rig) -> None:
    caller = Caller(rig)
    async with (
        aiohttp.ClientSession() as session,
        session.get(caller.local + caller.status_path()) as response,
    ):
        assert response.status == 405


async def test_an_unknown_status_is_taken_and_left(rig: Rig) -> None:
    caller = Caller(rig)
    assert await caller.post(caller.status_path(), status_fields("levitating")) == 204


async def test_repeated_keys_are_signed_as_twilio_signs_them(rig: Rig) -> None:
    await _sent(rig)
    caller = Caller(rig)
    path = caller.status_path()
    pairs = [("MessageSid", "SM1"), ("MessageStatus", "delivered"), ("M", "b"), ("M", "a")]
    from multidict import MultiDict

    signature = RequestValidator(rig.campaign.auth_token).compute_signature(
        caller.public + path, MultiDict(pairs)
    )
    body = urlencode(pairs).encode()
    assert await caller.raw(path, body, {"X-Twilio-Signature": signature}) == 204
    await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 1}, 60, "delivered")


async def test_the_callback_url_of_a_create_is_the_one_that_is_served(rig: Rig) -> None:
    await _sent(rig)
    caller = Caller(rig)
    callback = rig.twilio.creates[0]["StatusCallback"]
    url, _, fragment = callback.partition("#")
    assert fragment == "rc=5&rp=all"
    assert url == caller.public + caller.status_path(1, 1)
    path = url.removeprefix(caller.public)
    assert await caller.post(path, status_fields("delivered")) == 204
    await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 1}, 60, "delivered")


ENTRY = {
    "organisation_id": "01a20890-074e-777d-9543-4c0f9cd8fde3",
    "campaign_id": "01a20890-074e-777d-9543-4c0f9cd8fde4",
    "number": 1,
    "attempt": 1,
    "fields": {"MessageSid": "SM1", "MessageStatus": "sent"},
    "time": 1_795_000_000.0,
}


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(b"\xff", id="no JSON"),
        pytest.param(b"null", id="no list"),
        pytest.param(orjson.dumps([7]), id="no entry"),
        pytest.param(orjson.dumps([{**ENTRY, "number": 2**31}]), id="a number too large"),
        pytest.param(orjson.dumps([{**ENTRY, "attempt": 0}]), id="no attempt"),
        pytest.param(orjson.dumps([{**ENTRY, "time": 1e300}]), id="no time"),
        pytest.param(
            orjson.dumps([{**ENTRY, "fields": {"MessageSid": 7, "MessageStatus": "sent"}}]),
            id="a field that is no text",
        ),
        pytest.param(orjson.dumps([{**ENTRY, "fields": {}}]), id="no fields"),
    ],
)
async def test_what_is_no_entry_is_put_aside_and_holds_up_nothing(
    rig: Rig, nats_url: str, poison: bytes
) -> None:
    connection = await nats.connect(nats_url)
    try:
        jetstream = connection.jetstream()
        await jetstream.publish("outreach.inbox.sms", poison)
        await _sent(rig)
        caller = Caller(rig)
        assert await caller.post(caller.status_path(), status_fields("delivered")) == 204
        await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 1}, 60, "forwarded")

        async def nothing_left() -> bool:
            return (await jetstream.stream_info("OUTREACH_INBOX")).state.messages == 0

        await eventually(nothing_left, 60, "all entries are acknowledged")
    finally:
        await connection.close()
    assert len(rig.campaign.instances) == 1, "the sender lived on"


async def test_many_at_once_are_all_stored(rig: Rig) -> None:
    await rig.send(400)
    await eventually(lambda: rig.campaign.statuses() == {"SENT": 400}, 240, "sent")
    caller = Caller(rig)
    async with aiohttp.ClientSession() as session:

        async def post(number: int) -> int:
            path, fields = caller.status_path(number), status_fields("delivered")
            headers = {"X-Twilio-Signature": caller.signature(path, fields)}
            async with session.post(caller.local + path, data=fields, headers=headers) as response:
                return response.status

        answers = await asyncio.gather(*(post(number) for number in range(1, 401)))
    assert set(answers) == {204}
    await eventually(lambda: rig.campaign.statuses() == {"DELIVERED": 400}, 240, "all delivered")


async def test_health_says_what_is_not_connected(rig: Rig) -> None:
    caller = Caller(rig)

    async def health() -> tuple[int, list[str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{caller.local}/healthz") as response,
        ):
            return response.status, (await response.json())["faults"]

    assert await health() == (200, [])


async def test_without_nats_or_campaign_service_webhooks_are_put_off(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    async with server, sender_rig(server.url, tmp_path, sender_drain_seconds_max=1.0) as rig:
        await rig.send(1)
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 1}, 60, "all is set up")
        caller = Caller(rig)
        path, fields = caller.status_path(), status_fields("delivered")
        assert await caller.post(path, fields) == 204
        await server.stop()
        fields["MessageSid"] = "SM0002"
        assert await caller.post(path, fields) == 503
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{caller.local}/healthz") as response,
        ):
            assert response.status == 503
            assert (await response.json())["faults"] == ["NATS: not connected"]
