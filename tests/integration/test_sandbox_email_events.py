"""The event webhook: what is told, how it is signed, gathered, lost, repeated and retried."""

from base64 import urlsafe_b64decode
from collections import Counter
from typing import Any

import pytest

from services.sandbox.sendgrid.fates import Outcome
from tests.sandbox_email_parts import email_bench, personalization
from tests.waiting import eventually


def emails(number: int) -> list[str]:
    return [f"ada{at}@example.org" for at in range(number)]


async def test_every_recipient_is_told_what_its_fate_says() -> None:
    knobs: dict[str, Any] = {
        "deferred_then_delivered_share": 0.1,
        "deferred_for_ever_share": 0.05,
        "bounced_classes": {"Invalid Address": 0.05, "Technical": 0.05},
        "blocked_classes": {"Reputation": 0.05},
        "dropped_reasons": {"Spam Content": 0.05},
        "bounced_after_delivery_share": 0.05,
        "no_final_event_share": 0.05,
        "open_share": 0.3,
        "click_share": 0.2,
        "spamreport_share": 0.05,
        "unsubscribe_share": 0.05,
        "group_unsubscribe_share": 0.05,
        "event_lost_share": 0.1,
        "event_duplicated_share": 0.1,
        "event_reordered_share": 0.2,
        "event_fields_missing_share": 0.1,
        "event_batch_max": 97,
    }
    async with email_bench(**knobs) as bench:
        sent = emails(1_500)
        assert (await bench.send(*sent[:1_000])).status == 202
        assert (await bench.send(*sent[1_000:])).status == 202
        await bench.settle()
        fates = bench.sandbox.knobs.email_fates
        told: dict[str, list[str]] = {one: [] for one in sent}
        for event in bench.receiver.events:
            told[event["email"]].append(event["event"])
        for one in sent:
            fate = fates.of(one)
            expected = Counter(fate.told)
            twice = fate._replace(steps=fate.duplicated, lost=0)
            assert Counter(told[one]) == expected + Counter(twice.told), one
            once = list(dict.fromkeys(told[one]))
            assert once == (
                list(dict.fromkeys(reversed(fate.told)))
                if fate.reordered
                else list(dict.fromkeys(fate.told))
            )
        totals = await bench.ledger()
        final = Counter(fates.of(one).final_event for one in sent)
        assert totals["by_final_event"] == dict(final)
        assert len(final) == 6
        assert totals["events"]["events_posted"] == len(bench.receiver.events)
        assert {row["email"]: row["final_event"] for row in await bench.rows()} == {
            one: fates.of(one).final_event for one in sent
        }
        assert max(len(post.events) for post in bench.receiver.posts) == 97


async def test_posts_are_signed_over_the_raw_body_with_the_published_key() -> None:
    async with email_bench() as bench:
        await bench.send(*emails(20))
        await bench.settle()
        path = "/v3/user/webhooks/event/settings/signed"
        key = (await bench.ask("GET", path)).body["public_key"]
        assert (await bench.ask("GET", "/sandbox/sendgrid/public-key")).body == key
        assert bench.receiver.posts
        for post in bench.receiver.posts:
            assert post.body.endswith(b"}]\r\n")
            assert post.is_signed_by(key)
            post.body = post.body.replace(b"ada", b"eve")
            assert not post.is_signed_by(key)


FIELDS = {
    "processed": {"smtp-id"},
    "delivered": {"smtp-id", "response", "tls", "ip"},
    "deferred": {"smtp-id", "response", "attempt", "tls", "ip"},
    "bounce": {"smtp-id", "reason", "status", "type", "bounce_classification", "tls", "ip"},
    "dropped": {"smtp-id", "reason", "status"},
    "open": {"useragent", "ip", "sg_machine_open", "sg_content_type"},
    "click": {"useragent", "ip", "url", "url_offset"},
    "spamreport": set[str](),
}
COMMON = {"email", "timestamp", "event", "sg_event_id", "sg_message_id", "category", "asm_group_id"}


async def test_events_have_the_fields_of_their_type_and_the_arguments_beside_them() -> None:
    async with email_bench(
        deferred_then_delivered_share=0.2,
        bounced_classes={"Invalid Address": 0.2},
        dropped_reasons={"Invalid": 0.2},
        open_share=1.0,
        click_share=1.0,
        spamreport_share=1.0,
    ) as bench:
        given = [
            personalization(one, custom_args={"attempt_id": "a", "attempt": "mine", "event": "x"})
            for one in emails(60)
        ]
        answer = await bench.send(
            personalizations=given,
            categories=["news"],
            asm={"group_id": 2},
            custom_args={"campaign": 'quo"te', "attempt_id": "shared"},
        )
        assert answer.status == 202
        await bench.settle()
        seen: set[str] = set()
        ids: set[str] = set()
        for event in bench.receiver.events:
            kind = event["event"]
            seen.add(kind)
            args = {"attempt_id", "attempt", "campaign"}
            assert set(event) == COMMON | FIELDS[kind] | args, kind
            assert (event["attempt_id"], event["campaign"]) == ("a", 'quo"te')
            # SendGrid's own field hides an argument of the same name.
            assert (event["attempt"] == "mine") == (kind != "deferred")
            assert (event["category"], event["asm_group_id"]) == (["news"], 2)
            message_id = answer.headers["X-Message-Id"]
            assert event["sg_message_id"].startswith(f"{message_id}.")
            ids.add(event["sg_event_id"])
            assert len(event["sg_event_id"]) <= 100
            text = urlsafe_b64decode(event["sg_event_id"] + "==").decode()
            assert text.startswith(f"{kind}-")
            assert message_id in text
        assert seen == set(FIELDS)
        assert len(ids) == len(bench.receiver.events)
        attempts = [
            event["attempt"] for event in bench.receiver.events if event["event"] == "deferred"
        ]
        assert set(attempts) == {"1", "2"}


async def test_fields_that_may_be_missing_are_missing() -> None:
    async with email_bench(
        event_fields_missing_share=1.0,
        bounced_after_delivery_share=0.5,
        dropped_reasons={"Invalid": 0.5},
    ) as bench:
        await bench.send(*emails(40))
        await bench.settle()
        by_kind = {event["event"]: event for event in bench.receiver.events}
        assert "sg_event_id" not in by_kind["dropped"]
        assert not {"sg_message_id", "ip", "status"} & set(by_kind["bounce"])
        assert "response" not in by_kind["delivered"]
        assert all(event["attempt_id"] for event in bench.receiver.events)


async def test_a_post_that_is_not_taken_is_retried_with_the_same_event_ids() -> None:
    async with email_bench(event_retry_seconds=0.3, event_batch_max=10) as bench:
        statuses = iter([500, 302, None, 404])
        bench.receiver.answer = lambda _: next(statuses, 204)
        await bench.send(*emails(10))
        await bench.settle()
        assert len(bench.receiver.posts) > 4
        ids = Counter(event["sg_event_id"] for event in bench.receiver.events)
        assert len(ids) == 20
        assert max(ids.values()) >= 2
        counts = (await bench.ledger())["events"]
        assert counts["posts_retried"] == 4
        assert counts["events_posted"] == 20


async def test_a_receiver_that_takes_nothing_is_given_up() -> None:
    async with email_bench(event_retry_seconds=0.05) as bench:
        bench.receiver.answer = lambda _: 503
        await bench.send("ada@example.org")
        await bench.settle()
        assert (await bench.ledger())["events"]["events_given_up"] == 2


async def test_a_deferral_may_end_in_a_block() -> None:
    async with email_bench(
        deferred_for_ever_share=1.0, deferrals=3, deferral_expires_seconds=0.1
    ) as bench:
        await bench.send("ada@example.org")
        await bench.settle()
        assert bench.receiver.kinds("ada@example.org") == [
            "processed",
            *["deferred"] * 3,
            "bounce",
        ]
        assert bench.receiver.events[-1]["type"] == "blocked"
        assert (await bench.rows())[0]["final_event"] == "blocked"


async def test_events_can_be_switched_off_or_chosen() -> None:
    async with email_bench(event_types=["delivered"], open_share=1.0) as bench:
        await bench.send("ada@example.org")
        await bench.settle()
        assert bench.receiver.kinds("ada@example.org") == ["delivered"]
        settings = (await bench.ask("GET", "/v3/user/webhooks/event/settings")).body
        assert (settings["delivered"], settings["processed"]) == (True, False)
        await bench.ask("PATCH", "/sandbox/knobs", {"email": {"events_enabled": False}})
        await bench.send("bob@example.org")
        await bench.settle()
        assert bench.receiver.kinds("bob@example.org") == []
        assert (await bench.rows())[1]["final_event"] == "delivered"


async def test_the_receiver_can_be_set_by_the_api() -> None:
    async with email_bench() as bench:
        path = "/v3/user/webhooks/event/settings"
        other = f"{bench.receiver.url}/other"
        assert (await bench.ask("PATCH", path, {"url": other})).body["url"] == other
        assert (await bench.ask("PATCH", path, {"url": 7})).status == 400
        assert (await bench.ask("GET", f"{path}/all")).body["webhooks"][0]["url"] == other


async def test_a_reset_forgets_emails_suppressions_and_events() -> None:
    async with email_bench(
        event_delay_ms_min=60_000, event_delay_ms_max=60_000, rejected_share=0.0
    ) as bench:
        first = await bench.send("ada@example.org")
        await bench.ask(
            "POST", "/v3/asm/suppressions/global", {"recipient_emails": ["bob@example.org"]}
        )
        assert (await bench.ledger())["emails_with_pending_events"] == 1
        assert (await bench.ask("DELETE", "/sandbox/sendgrid/ledger")).status == 200
        totals = await bench.ledger()
        assert (totals["accepted"], totals["emails_with_pending_events"]) == (0, 0)
        assert totals["suppressed"]["unsubscribes"] == 0
        again = await bench.send("ada@example.org")
        assert again.headers["X-Message-Id"] != first.headers["X-Message-Id"]
        old = f"/v3/messages/{first.headers['X-Message-Id']}"
        assert (await bench.ask("GET", old)).status == 404


async def test_the_status_goes_forward_with_the_events() -> None:
    async with email_bench(
        deferred_then_delivered_share=1.0, event_delay_ms_max=0, deferral_seconds=3.0
    ) as bench:
        await bench.send("ada@example.org")

        async def status() -> str:
            return str((await bench.rows())[0]["status"])

        async def has(wanted: str) -> bool:
            return await status() == wanted

        await eventually(lambda: has("deferred"))
        await eventually(lambda: has("delivered"))
        assert bench.sandbox.emails.outcome(0) is Outcome.DEFERRED_THEN_DELIVERED


@pytest.mark.parametrize("size", [1, 1_000])
async def test_a_post_ends_at_its_size(size: int) -> None:
    async with email_bench(event_batch_bytes_max=size) as bench:
        await bench.send(*emails(20))
        await bench.settle()
        longest = max(len(post.body) for post in bench.receiver.posts)
        assert longest < size + 600
        assert len(bench.receiver.events) == 40


async def test_a_reset_while_events_are_on_their_way_leaves_a_working_webhook() -> None:
    async with email_bench(event_batch_max=1, event_delay_ms_max=0) as bench:
        await bench.send(*emails(500))
        await eventually(lambda: len(bench.receiver.posts) >= 20)
        await bench.ask("DELETE", "/sandbox/sendgrid/ledger")
        before = len(bench.receiver.posts)
        await bench.send("bob@example.org")
        await bench.settle()
        assert bench.receiver.kinds("bob@example.org") == ["processed", "delivered"]
        # One post may have been under way, and one answered by then.
        assert len(bench.receiver.posts) <= before + 4
