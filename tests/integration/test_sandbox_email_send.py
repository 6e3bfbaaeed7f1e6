"""mail/send as a client sees it: answers, limits, faults, suppressions, look-ups."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from services.sandbox.fates import TransportFault
from services.sandbox.sendgrid.fates import EmailFates
from services.sandbox.sendgrid.knobs import EmailKnobs
from tests.sandbox_email_parts import SENDER, Answered, email_bench, mail, personalization

SEND = "/v3/mail/send"


def emails(number: int, start: int = 0) -> list[str]:
    return [f"ada{at}@example.org" for at in range(start, start + number)]


def with_fate(wanted: str, fates: EmailFates, candidates: Iterable[str]) -> str:
    return next(one for one in candidates if fates.of(one).rejection == wanted)


async def test_a_request_is_accepted_under_one_message_id() -> None:
    async with email_bench() as bench:
        answer = await bench.send(*emails(1_000))
        assert (answer.status, answer.body) == (202, "")
        assert len(answer.headers["X-Message-Id"]) == 22
        limit = [answer.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining")]
        assert limit == ["10000", "9999"]
        assert int(answer.headers["X-RateLimit-Reset"]) <= time.time() + 1
        await bench.settle()
        totals = await bench.ledger()
        assert (totals["accepted"], totals["requests"]) == (1_000, 1)
        assert totals["by_final_event"] == {"delivered": 1_000}
        rows = await bench.rows()
        ids = {row["sg_message_id"] for row in rows}
        assert len(ids) == 1_000
        assert all(one.startswith(answer.headers["X-Message-Id"] + ".") for one in ids)
        assert {row["attempt"] for row in rows} == {f"attempt-{one}" for one in emails(1_000)}


@pytest.mark.parametrize("key", ["", "SG.wrong", "ключ"])
async def test_a_wrong_key_is_refused(key: str) -> None:
    async with email_bench() as bench:
        answer = await bench.ask("POST", SEND, mail("a@example.org"), key=key)
        assert answer.status == 401
        assert answer.messages == [
            "The provided authorization grant is invalid, expired, or revoked"
        ]
        assert (await bench.ledger())["accepted"] == 0


async def test_an_unverified_sender_and_a_key_without_the_right_are_refused() -> None:
    async with email_bench() as bench:
        for sender in ("else@outreach.example", "a@sub.mail.outreach.example"):
            answer = await bench.send("a@example.org", **{"from": {"email": sender}})
            assert (answer.status, answer.fields) == (403, ["from"])
            assert answer.messages[0].startswith("The from address does not match a verified")
        for sender in ("Any@Mail.Outreach.Example", SENDER.upper()):
            sent = await bench.send("b@example.org", **{"from": {"email": sender}})
            assert sent.status == 202
        await bench.ask("PATCH", "/sandbox/knobs", {"email": {"scopes": ["asm.read"]}})
        assert (await bench.send("c@example.org")).status == 403
        assert (await bench.ask("GET", "/v3/scopes")).body == {"scopes": ["asm.read"]}


async def test_sandbox_mode_validates_and_accepts_nothing() -> None:
    async with email_bench() as bench:
        mode = {"mail_settings": {"sandbox_mode": {"enable": True}}}
        assert (await bench.send("a@example.org", **mode)).status == 200
        assert (await bench.send("a@example.org", subject="", **mode)).status == 400
        assert (await bench.ledger())["accepted"] == 0


async def test_what_is_not_json_is_refused() -> None:
    async with email_bench() as bench:
        for body in (b"", b"{", b'{"subject": "\xff"}', b"[]", b"null"):
            answer = await bench.ask("POST", SEND, body)
            assert (answer.status, answer.messages) == (400, ["Bad Request"])
        headers = {"Authorization": f"Bearer {bench.sandbox.settings.sendgrid_api_key}"}
        async with bench.session.post(
            f"{bench.sandbox.url}{SEND}", data={"a": "b"}, headers=headers
        ) as form:
            assert form.status == 415
        assert (await bench.ask("GET", SEND)).status == 405
        assert (await bench.ask("GET", "/v3/nothing")).status == 404


async def test_a_request_that_is_too_large_gets_the_proxys_html() -> None:
    async with email_bench() as bench:
        content = b64encode(bytes(23 * 1024 * 1024)).decode()
        attachment = {"filename": "a.bin", "content": content}
        answer = await bench.send("a@example.org", attachments=[attachment])
        assert answer.status == 413
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "413 Request Entity Too Large" in answer.body
        smaller = {"filename": "a.bin", "content": content[: 26 * 1024 * 1024]}
        assert (await bench.send("a@example.org", attachments=[smaller])).status == 202
        beyond = await bench.ask("POST", SEND, b"x" * (65 * 1024 * 1024))
        assert beyond.status == 413
        await bench.ask("PATCH", "/sandbox/knobs", {"email": {"request_bytes_max": 2_000}})
        assert (await bench.send("b@example.org", subject="x" * 2_000)).status == 413
        assert (await bench.send("b@example.org")).status == 202


async def test_a_refused_recipient_is_named_or_not() -> None:
    async with email_bench(rejected_share=0.02, rejected_unnamed_share=0.02) as bench:
        fates = bench.sandbox.knobs.email_fates
        good = [one for one in emails(200) if fates.of(one).rejection is None]
        named = with_fate("named", fates, emails(2_000))
        unnamed = with_fate("unnamed", fates, emails(2_000))
        answer = await bench.send(*good[:3], named, *good[3:5], unnamed)
        assert (answer.status, answer.fields) == (400, ["personalizations.3.to.0.email"])
        assert answer.messages == ["Does not contain a valid address."]
        answer = await bench.send(*good[:3], unnamed)
        assert (answer.status, answer.fields, answer.messages) == (400, [None], ["Bad Request"])
        assert (await bench.send(*good[:3])).status == 202
        totals = await bench.ledger()
        assert (totals["accepted"], totals["requests_refused"]) == (3, {"http_400": 2})


FAULTS = {fault: f"{fault.value}_share" for fault in TransportFault}


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_fault_hits_the_first_request_that_begins_with_a_recipient(
    fault: TransportFault,
) -> None:
    async with email_bench(**{FAULTS[fault]: 1.0}, http_429_reset_seconds=7) as bench:

        async def send() -> Answered | None:
            try:
                return await bench.send("ada@example.org", "bob@example.org")
            except aiohttp.ClientError:
                return None

        began = time.time()
        first = await send()
        assert (first is None) == fault.value.startswith("drop")
        if fault is TransportFault.HTTP_429:
            assert first is not None
            assert first.status == 429
            assert first.headers["X-RateLimit-Remaining"] == "0"
            assert began + 6 <= int(first.headers["X-RateLimit-Reset"]) <= time.time() + 8
        elif first is not None:
            assert first.status == 500
        accepted = 2 if fault.accepts else 0
        assert (await bench.ledger())["accepted"] == accepted
        second = await send()
        assert second is not None
        assert second.status == 202
        totals = await bench.ledger()
        assert totals["accepted"] == accepted + 2
        assert totals["attempts_accepted_more_than_once"] == accepted
        assert totals["recipients_accepted_more_than_once"] == accepted
        counted = {row["accepted_count"] for row in await bench.rows()}
        assert counted == {1 + fault.accepts}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_outage_answers_all_alike_and_accepts_nothing(status: int) -> None:
    async with email_bench(unavailable_status=status) as bench:
        answers = [await bench.send("a@example.org") for _ in range(2)]
        answers.append(await bench.ask("GET", "/v3/scopes"))
        assert [answer.status for answer in answers] == [status] * 3
        assert ("X-RateLimit-Reset" in answers[0].headers) == (status == 429)
        totals = await bench.ledger()
        assert (totals["accepted"], totals["requests_refused"]) == (0, {"unavailable": 3})
        await bench.ask("PATCH", "/sandbox/knobs", {"email": {"unavailable_status": 0}})
        began = time.time()
        assert (await bench.send("a@example.org")).status == 202
        assert began <= (await bench.rows())[0]["arrived"] <= time.time()


async def test_the_rate_limit_is_told_and_kept() -> None:
    async with email_bench(rate_limit_requests=2, rate_limit_window_seconds=3_600) as bench:
        answers = [await bench.send(f"a{at}@example.org") for at in range(4)]
        assert [answer.status for answer in answers] == [202, 202, 429, 429]
        left = [answer.headers["X-RateLimit-Remaining"] for answer in answers]
        assert left == ["1", "0", "0", "0"]
        assert (await bench.ledger())["accepted"] == 2


async def test_latency_delays_the_answer() -> None:
    async with email_bench(latency_ms=1_500) as bench:
        began = time.perf_counter()
        await asyncio.gather(*(bench.send(f"a{at}@example.org") for at in range(20)))
        assert 1.5 <= time.perf_counter() - began < 25, "at the same time, not one by one"


async def test_suppressed_addresses_are_dropped_until_they_are_taken_off() -> None:
    async with email_bench() as bench:
        answer = await bench.ask(
            "POST", "/v3/asm/suppressions/global", {"recipient_emails": ["Ada@example.org"]}
        )
        assert (answer.status, answer.body) == (201, {"recipient_emails": ["Ada@example.org"]})
        path = "/v3/asm/suppressions/global/ada%40example.org"
        assert (await bench.ask("GET", path)).body == {"recipient_email": "ada@example.org"}
        listed = (await bench.ask("GET", "/v3/suppression/unsubscribes")).body
        assert [one["email"] for one in listed] == ["ada@example.org"]
        await bench.send("ada@example.org", "bob@example.org")
        await bench.settle()
        (told,) = [one for one in bench.receiver.events if one["email"] == "ada@example.org"]
        assert (told["event"], told["reason"]) == ("dropped", "Unsubscribed Address")
        assert told["attempt_id"] == "attempt-ada@example.org"
        assert bench.receiver.kinds("bob@example.org") == ["processed", "delivered"]
        bypass = {"mail_settings": {"bypass_list_management": {"enable": True}}}
        await bench.send("ada@example.org", **bypass)
        assert (await bench.ask("DELETE", path)).status == 204
        assert (await bench.ask("GET", path)).body == {}
        await bench.send("ada@example.org")
        await bench.settle()
        assert [row["final_event"] for row in await bench.rows()] == [
            "dropped",
            "delivered",
            "delivered",
            "delivered",
        ]
        wrong = await bench.ask("POST", "/v3/asm/suppressions/global", {"recipient_emails": ["a"]})
        assert wrong.status == 400


async def test_what_recipients_and_servers_do_fills_the_lists() -> None:
    for knob, listed, reason in (
        ({"bounced_classes": {"Invalid Address": 1.0}}, "bounces", "Bounced Address"),
        ({"bounced_after_delivery_share": 1.0}, "bounces", "Bounced Address"),
        ({"spamreport_share": 1.0}, "spam_reports", "Spam Reporting Address"),
        ({"unsubscribe_share": 1.0}, "unsubscribes", "Unsubscribed Address"),
        ({"blocked_classes": {"Content": 1.0}}, "blocks", None),
    ):
        async with email_bench(**knob) as bench:
            await bench.send("ada@example.org")
            await bench.settle()
            entries = (await bench.ask("GET", f"/v3/suppression/{listed}")).body
            assert [one["email"] for one in entries] == ["ada@example.org"], listed
            await bench.send("ada@example.org")
            assert (await bench.rows())[-1]["drop_reason"] == reason
            await bench.settle()  # one that is blocked is not dropped: it is blocked again
            one = f"/v3/suppression/{listed}/ada@example.org"
            again = (await bench.ask("GET", one)).body
            assert again == entries if reason else len(again) == 1
            assert (await bench.ask("DELETE", one)).status == 204
            assert (await bench.ask("DELETE", one)).status == 404
            assert (await bench.ask("GET", one)).body == []


async def test_bounces_alone_can_be_passed_over() -> None:
    bypass = {"mail_settings": {"bypass_bounce_management": {"enable": True}}}
    async with email_bench(bounced_classes={"Mailbox Unavailable": 1.0}) as bench:
        given = {"recipient_emails": ["bob@example.org"]}
        await bench.ask("POST", "/v3/asm/suppressions/global", given)
        await bench.send("ada@example.org")
        await bench.settle()
        await bench.send("ada@example.org")
        await bench.send("ada@example.org", "bob@example.org", **bypass)
        reasons = [row["drop_reason"] for row in await bench.rows()]
        assert reasons == [None, "Bounced Address", None, "Unsubscribed Address"]


async def test_a_whole_list_can_be_emptied() -> None:
    async with email_bench() as bench:
        given = {"recipient_emails": emails(3)}
        await bench.ask("POST", "/v3/asm/suppressions/global", given)
        path = "/v3/suppression/unsubscribes"
        page = await bench.ask("GET", f"{path}?limit=1&offset=1")
        assert [one["email"] for one in page.body] == emails(1, 1)
        assert (await bench.ask("GET", f"{path}?limit=x")).status == 400
        assert (await bench.ask("DELETE", path, {"emails": emails(1)})).status == 204
        assert len((await bench.ask("GET", path)).body) == 2
        assert (await bench.ask("DELETE", path, {"delete_all": True})).status == 204
        assert (await bench.ask("GET", path)).body == []


async def test_the_account_is_told() -> None:
    async with email_bench() as bench:
        assert "mail.send" in (await bench.ask("GET", "/v3/scopes")).body["scopes"]
        (sender,) = (await bench.ask("GET", "/v3/verified_senders")).body["results"]
        assert (sender["from_email"], sender["verified"]) == (SENDER, True)
        (domain,) = (await bench.ask("GET", "/v3/whitelabel/domains")).body
        assert (domain["domain"], domain["valid"]) == ("mail.outreach.example", True)


async def _logs(bench: Any, query: str, limit: int = 1_000) -> list[dict[str, Any]]:
    answer = await bench.ask("POST", "/v3/logs", {"query": query, "limit": limit})
    assert answer.status == 200, answer.body
    return list(answer.body["messages"])


async def test_emails_are_found_again_by_query() -> None:
    async with email_bench(bounced_classes={"Invalid Address": 0.3}) as bench:
        first = await bench.send(*emails(50), subject="One", categories=["rq-1"])
        await bench.send(*emails(50, 50), subject="Two")
        await bench.settle()
        fates = bench.sandbox.knobs.email_fates
        bounced = {one for one in emails(100) if fates.of(one).outcome == "bounced"}
        assert bounced
        found = await _logs(bench, "to_email = 'ADA7@example.org'")
        assert [(one["to_email"], one["subject"]) for one in found] == [("ada7@example.org", "One")]
        assert {one["to_email"] for one in await _logs(bench, "status IN ('bounced')")} == bounced
        assert (
            len(await _logs(bench, 'subject = "Two" AND status IN ("bounced","delivered")')) == 50
        )
        assert len(await _logs(bench, "categories IN ('rq-1')")) == 50
        assert (
            len(await _logs(bench, 'sg_message_id_created_at > TIMESTAMP "2020-01-01T00:00:00Z"'))
            == 100
        )
        assert (
            await _logs(bench, 'sg_message_id_created_at < TIMESTAMP "2020-01-01T00:00:00Z"') == []
        )
        assert len(await _logs(bench, "", 7)) == 7

        prefix = first.headers["X-Message-Id"]
        query = quote(f'msg_id LIKE "{prefix}%"')
        activity = (await bench.ask("GET", f"/v3/messages?limit=1000&query={query}")).body
        assert {one["to_email"] for one in activity["messages"]} == set(emails(50))
        by_attempt = quote("(unique_args['attempt_id']=\"attempt-ada60@example.org\")")
        (one,) = (await bench.ask("GET", f"/v3/messages?query={by_attempt}")).body["messages"]
        assert one["to_email"] == "ada60@example.org"
        nobody = quote("unique_args['attempt_id']=\"attempt-nobody\"")
        assert (await bench.ask("GET", f"/v3/messages?query={nobody}")).body == {"messages": []}

        message = (await bench.ask("GET", f"/v3/messages/{one['msg_id']}")).body
        assert message["unique_args"] == {"attempt_id": "attempt-ada60@example.org"}
        assert message["events"][0]["event_name"] == "processed"
        refused = (await _logs(bench, f"to_email = '{min(bounced)}'"))[0]
        log = (await bench.ask("GET", f"/v3/logs/{refused['sg_message_id']}")).body
        assert log["custom_args"] == {"attempt_id": f"attempt-{min(bounced)}"}
        assert [event["event"] for event in log["events"]] == ["processed", "bounce"]
        assert log["events"][1]["bounce_classification"] == "Invalid Address"
        assert "5.1.1" in log["reason"]


@pytest.mark.parametrize(
    "query",
    ["nonsense", "to_email", "to_email = 'a' OR status = 'b'", "x = 'y'", "status = 'a' AND"],
)
async def test_a_query_that_is_none_is_refused(query: str) -> None:
    async with email_bench() as bench:
        answer = await bench.ask("POST", "/v3/logs", {"query": query})
        assert (answer.status, answer.fields) == (400, ["query"])
        assert (await bench.ask("POST", "/v3/logs", {"limit": 5_000})).status == 400
        assert (await bench.ask("GET", "/v3/logs/nothing")).status == 404


async def test_young_emails_are_missing_from_look_ups() -> None:
    async with email_bench(look_up_lag_seconds=3_600) as bench:
        answer = await bench.send("ada@example.org")
        assert await _logs(bench, "") == []
        path = f"/v3/messages/{answer.headers['X-Message-Id']}"
        assert (await bench.ask("GET", path)).status == 404
        await bench.ask("PATCH", "/sandbox/knobs", {"email": {"look_up_lag_seconds": 0}})
        assert len(await _logs(bench, "")) == 1
        assert (await bench.ask("GET", path)).status == 200


async def test_changing_an_email_knob_keeps_the_others() -> None:
    async with email_bench(open_share=0.5) as bench:
        changed = await bench.ask("PATCH", "/sandbox/knobs", {"email": {"click_share": 0.25}})
        knobs = EmailKnobs.model_validate(changed.body["email"])
        assert (knobs.open_share, knobs.click_share) == (0.5, 0.25)
        wrong = await bench.ask("PATCH", "/sandbox/knobs", {"email": {"click_share": 2}})
        assert (wrong.status, wrong.body["errors"][0]["field"]) == (400, "email.click_share")
        fate = (await bench.ask("GET", "/sandbox/fate?email=ada%2Bx@example.org")).body
        drawn = bench.sandbox.knobs.email_fates.of("ada+x@example.org")
        assert (fate["email"], fate["events"]) == ("ada+x@example.org", drawn.events)


async def test_an_attempt_of_several_recipients_counts_once() -> None:
    async with email_bench() as bench:
        copied = personalization("a@example.org", cc=[{"email": "b@example.org"}])
        assert (await bench.send(personalizations=[copied])).status == 202
        totals = await bench.ledger()
        assert (totals["accepted"], totals["distinct_attempts"]) == (2, 1)
        assert totals["attempts_accepted_more_than_once"] == 0
