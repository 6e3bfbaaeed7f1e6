"""Twilio's API of the sandbox, driven by Twilio's own client."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException

from services.sandbox.twilio.magic import MAGIC_FROM, MAGIC_TO
from tests.sandbox_parts import Bench, sandbox_bench
from tests.waiting import eventually

SENDER = "+15005550006"
TO = "+15125550001"


async def test_a_message_is_created_fetched_and_delivered() -> None:
    async with sandbox_bench(callback_delay_ms_min=3_000, callback_delay_ms_max=3_000) as bench:
        created = await bench.send(TO, body="Grüße & 100 %: 👋 {{x}}", validity_period=3600)
        assert created.status == "accepted"
        assert created.sid.startswith("SM")
        assert len(created.sid) == 34
        assert (created.from_, created.num_segments, created.price) == (None, "0", None)
        assert created.messaging_service_sid == bench.settings.messaging_service_sid
        assert abs(created.date_created - datetime.now(UTC)) < timedelta(minutes=2)
        assert created.subresource_uris["media"].endswith(f"{created.sid}/Media.json")
        assert created.uri.endswith(f"/Messages/{created.sid}.json")
        headers = bench.transport.headers
        assert headers["Twilio-Concurrent-Requests"] == "1"
        assert headers["Twilio-Request-Id"].startswith("RQ")
        assert len(headers["Twilio-Request-Id"]) == 34
        assert float(headers["Twilio-Request-Duration"]) < 1

        fetched = await bench.twilio.messages(created.sid).fetch_async()
        assert (fetched.body, fetched.to, fetched.from_) == (created.body, TO, SENDER)
        assert fetched.status in ("accepted", "queued", "sending")
        assert fetched.date_sent is None
        assert fetched.direction == "outbound-api"


async def test_a_plain_sender_starts_queued_and_ends_as_the_fate_says() -> None:
    async with sandbox_bench(failed_codes={30003: 1}) as bench:
        created = await bench.twilio.messages.create_async(to=TO, from_=SENDER, body="x" * 161)
        assert (created.status, created.from_, created.num_segments) == ("queued", SENDER, "2")
        assert created.messaging_service_sid is None

        def has_failed() -> bool | Awaitable[bool]:
            return asked()

        async def asked() -> bool:
            return (await bench.twilio.messages(created.sid).fetch_async()).error_code is not None

        await eventually(has_failed)
        message = await bench.twilio.messages(created.sid).fetch_async()
        assert (message.status, message.error_code) == ("undelivered", 30003)
        assert message.date_sent is not None


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"To": ""}, 400, 21604),
        ({"To": "15125550001"}, 400, 21211),
        ({"To": "+1512555000123456"}, 400, 21211),
        ({"To": "+0125550001"}, 400, 21211),
        ({"Body": ""}, 400, 21602),
        ({"Body": "x" * 1601}, 400, 21617),
        ({"MessagingServiceSid": ""}, 400, 21603),
        ({"MessagingServiceSid": "MG" + "0" * 32}, 404, 20404),
        ({"MessagingServiceSid": "service"}, 400, 21701),
        ({"MessagingServiceSid": "", "From": "+15125559999"}, 400, 21606),
        ({"MessagingServiceSid": "", "From": "+12"}, 400, 21212),
        ({"From": "+15125559999"}, 400, 21712),
        ({"StatusCallback": "nowhere"}, 400, 21609),
        ({"StatusCallback": "https://a_b.example.com/"}, 400, 21609),
        ({"ValidityPeriod": "0"}, 400, 21624),
        ({"ValidityPeriod": "36001"}, 400, 21624),
        ({"ValidityPeriod": "soon"}, 400, 21624),
        ({"Body": "x" * 1600, "ValidityPeriod": "36000"}, 201, None),
        *(({"To": to}, 400, code) for to, code in MAGIC_TO.items()),
        *(({"MessagingServiceSid": "", "From": to}, 400, code) for to, code in MAGIC_FROM.items()),
        ({"MessagingServiceSid": "", "From": "+15005550006"}, 201, None),
    ],
)
async def test_a_create_is_checked_as_twilio_does(
    changes: dict[str, str], status: int, code: int | None
) -> None:
    async with sandbox_bench() as bench:
        service = bench.settings.messaging_service_sid
        form = {"To": TO, "Body": "Hello", "MessagingServiceSid": service, **changes}
        got_status, body = await bench.post({name: value for name, value in form.items() if value})
        assert (got_status, body.get("code")) == (status, code)
        ledger = await bench.ledger()
        assert ledger["accepted"] == (code is None)
        if code is not None:
            assert body["status"] == status
            assert body["more_info"] == f"https://www.twilio.com/docs/errors/{code}"
            assert body["message"]
            assert ledger["rejected_by_code"] == {str(code): 1}


async def test_refusals_raise_twilios_exception() -> None:
    async with sandbox_bench() as bench:
        with pytest.raises(TwilioRestException) as refused:
            await bench.send("+15005550004")
        assert (refused.value.status, refused.value.code) == (400, 21610)


@pytest.mark.parametrize("password", ["", "wrong", "5a17d0b0c5a17d0b0c5a17d0b0c5a17e"])
async def test_wrong_credentials_are_refused(password: str) -> None:
    async with sandbox_bench() as bench:
        status, body = await bench.post({"To": TO}, auth=(bench.settings.account_sid, password))
        assert (status, body["code"], body["message"]) == (401, 20003, "Authenticate")
        async with bench.session.get(f"{bench.sandbox.url}/2010-04-01/Accounts.json") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def _get(bench: Bench, path: str, method: str = "GET") -> tuple[int, Any]:
    settings = bench.settings
    authorization = aiohttp.encode_basic_auth(settings.account_sid, settings.auth_token)
    url = f"{bench.sandbox.url}{path.format(sid=settings.account_sid)}"
    async with bench.session.request(
        method, url, headers={"Authorization": authorization}
    ) as answer:
        return answer.status, await answer.json()


async def test_what_does_not_exist_is_not_found() -> None:
    async with sandbox_bench() as bench:
        other = f"/2010-04-01/Accounts/AC{'0' * 32}/Messages.json"
        for path in (
            "/2010-04-01/Accounts/{sid}/Messages/SM" + "0" * 32 + ".json",
            "/2010-04-01/Accounts/{sid}/Messages/SM1.json",
            "/2010-04-01/Accounts/{sid}/Calls.json",
            other,
        ):
            status, body = await _get(bench, path)
            assert (status, body["code"]) == (404, 20404), path
        status, body = await _get(bench, "/2010-04-01/Accounts/{sid}/Messages.json", "DELETE")
        assert (status, body["code"]) == (405, 20004)
        account = await bench.twilio.api.v2010.accounts(bench.settings.account_sid).fetch_async()
        assert (account.status, account.sid) == ("active", bench.settings.account_sid)


def _sids(page: dict[str, Any]) -> list[str]:
    return [message["sid"] for message in page["messages"]]


async def test_the_list_pages_forwards_and_backwards_newest_first() -> None:
    async with sandbox_bench() as bench:
        sids = [(await bench.send(f"+1512555{number:04d}")).sid for number in range(7)]
        listed = await bench.twilio.messages.list_async(page_size=3)
        assert [message.sid for message in listed] == sids[::-1]

        path = "/2010-04-01/Accounts/{sid}/Messages.json?PageSize=3"
        pages = []
        _, page = await _get(bench, path)
        while True:
            pages.append(page)
            if page["next_page_uri"] is None:
                break
            _, page = await _get(bench, page["next_page_uri"])
        assert [len(page["messages"]) for page in pages] == [3, 3, 1]
        assert [page["page"] for page in pages] == [0, 1, 2]
        assert [(page["start"], page["end"]) for page in pages] == [(0, 2), (3, 5), (6, 6)]
        assert pages[0]["previous_page_uri"] is None
        assert parsedate_to_datetime(pages[0]["messages"][0]["date_created"]).tzinfo is not None
        _, back = await _get(bench, pages[2]["previous_page_uri"])
        assert _sids(back) == _sids(pages[1])
        _, first = await _get(bench, back["previous_page_uri"])
        assert _sids(first) == _sids(pages[0])
        _, again = await _get(bench, pages[2]["first_page_uri"])
        assert _sids(again) == _sids(pages[0])


async def test_the_list_is_filtered() -> None:
    async with sandbox_bench(callback_delay_ms_max=0) as bench:
        for number in (1, 2, 1):
            await bench.send(f"+1512555000{number}", body=f"to {number}")
        list_async = bench.twilio.messages.list_async
        assert [message.body for message in await list_async(to=TO)] == ["to 1", "to 1"]
        assert await list_async(to="+15125550009") == []
        assert await list_async(to="nobody") == []
        assert len(await list_async(from_=SENDER)) == 3
        assert await list_async(from_="+15125559999") == []
        now = datetime.now(UTC)
        hour, today = timedelta(hours=1), now.date()
        assert len(await list_async(date_sent_after=now - hour, date_sent_before=now + hour)) == 3
        assert await list_async(date_sent_after=now + hour) == []
        assert await list_async(date_sent_before=now - hour) == []
        if now.hour != 23:
            assert len(await list_async(date_sent=today)) == 3
            day = today.isoformat()
            assert len(await list_async(date_sent_after=day, date_sent_before=day)) == 3
        assert await list_async(date_sent=today - timedelta(days=2)) == []


@pytest.mark.parametrize(
    "query",
    ["PageSize=0", "PageSize=1001", "PageSize=x", "PageToken=PAx", "DateSent=today", "Page=-1"],
)
async def test_a_wrong_list_query_is_refused(query: str) -> None:
    async with sandbox_bench() as bench:
        status, body = await _get(bench, f"/2010-04-01/Accounts/{{sid}}/Messages.json?{query}")
        assert (status, body["code"]) == (400, 20001)


async def test_a_reply_opts_out_and_in_again() -> None:
    async with sandbox_bench() as bench:
        await bench.send(TO)
        url = f"{bench.receiver.url}/inbound"
        status, said = await bench.own(
            "POST", "/sandbox/inbound", {"from": TO, "body": " stop ", "url": url}
        )
        assert (status, said["opted_out"], said["receiver_status"]) == (200, True, 204)
        received = bench.receiver.received[-1]
        assert received.is_signed_with(bench.settings.auth_token)
        assert (received.form["From"], received.form["To"]) == (TO, SENDER)
        assert (received.form["Body"], received.form["SmsStatus"]) == (" stop ", "received")
        assert "OptOutType" not in received.form
        with pytest.raises(TwilioRestException) as refused:
            await bench.send(TO)
        assert refused.value.code == 21610

        for body, opted_out in (("please stop", True), ("HELP", True), ("Start", False)):
            _, said = await bench.own("POST", "/sandbox/inbound", {"from": TO, "body": body})
            assert said["opted_out"] is opted_out, body
            assert said["receiver_status"] is None
        await bench.send(TO)

        advanced = {"from": TO, "body": "arrêt", "opt_out_type": "STOP", "url": url}
        _, said = await bench.own("POST", "/sandbox/inbound", advanced)
        assert said["opted_out"] is True
        assert bench.receiver.received[-1].form["OptOutType"] == "STOP"
        assert bench.receiver.received[-1].is_signed_with(bench.settings.auth_token)
        assert (await bench.own("POST", "/sandbox/inbound", {"from": "x", "body": ""}))[0] == 400
