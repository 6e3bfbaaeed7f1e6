"""The SendGrid half survives a kill: emails, events, suppressions, key, receiver."""

import asyncio
import json
from pathlib import Path

import aiohttp

from services.sandbox.settings import SandboxSettings
from tests.integration.test_sandbox_process import sandbox_process
from tests.sandbox_email_parts import asked, mail, receiving_events
from tests.waiting import eventually

KEY = SandboxSettings().sendgrid_api_key
SLOW = {
    "email": {
        "event_delay_ms_min": 1_500,
        "event_delay_ms_max": 1_500,
        "event_batch_wait_ms": 10,
        "bounced_classes": {"Content": 0.2},
        "event_duplicated_share": 0.1,
    }
}


async def test_a_kill_loses_no_email_and_events_go_on(tmp_path: Path) -> None:
    knobs = json.dumps(SLOW)
    async with receiving_events() as receiver, aiohttp.ClientSession() as session:
        accepted: dict[str, str] = {}

        async def send(url: str, number: int) -> None:
            emails = [f"ada{number}-{at}@example.org" for at in range(20)]
            try:
                answer = await asked(session, url, "POST", "/v3/mail/send", mail(*emails), KEY)
            except aiohttp.ClientError:
                return
            assert answer.status == 202
            accepted.update(dict.fromkeys(emails, answer.headers["X-Message-Id"]))

        async with sandbox_process(tmp_path, KNOBS=knobs) as first:
            path = "/v3/user/webhooks/event/settings"
            await asked(session, first.url, "PATCH", path, {"url": receiver.url}, KEY)
            gone = {"recipient_emails": ["gone@example.org"]}
            await asked(session, first.url, "POST", "/v3/asm/suppressions/global", gone, KEY)
            key = await asked(session, first.url, "GET", "/sandbox/sendgrid/public-key", None, KEY)
            sending = [asyncio.ensure_future(send(first.url, number)) for number in range(60)]
            await eventually(lambda: len(accepted) >= 200)
            first.process.kill()
            await first.process.wait()
            await asyncio.gather(*sending)

        with (tmp_path / "data" / "emails.jsonl").open("ab") as journal:
            journal.write(b'["sent",17')
        async with sandbox_process(tmp_path, KNOBS=knobs) as second:
            ledger = await asked(session, second.url, "GET", "/sandbox/sendgrid/ledger", None, KEY)
            assert len(accepted) <= ledger.body["accepted"] <= 1_200
            assert ledger.body["distinct_attempts"] == ledger.body["accepted"]
            assert ledger.body["suppressed"]["unsubscribes"] == 1
            page = "/sandbox/sendgrid/ledger/emails?limit=10000"
            rows = (await asked(session, second.url, "GET", page, None, KEY)).body["emails"]
            found = {row["email"]: row for row in rows}
            assert set(accepted) <= set(found)
            for email, message_id in accepted.items():
                assert found[email]["sg_message_id"].startswith(message_id)
                assert found[email]["attempt"] == f"attempt-{email}"

            def told() -> bool:
                ended = {
                    event["email"]
                    for event in receiver.events
                    if event["event"] in ("delivered", "bounce")
                }
                return set(found) <= ended

            await eventually(told, 240)
            assert all(post.is_signed_by(key.body) for post in receiver.posts)
            for event in receiver.events:
                assert event["attempt_id"] == f"attempt-{event['email']}"
                row = found[event["email"]]
                if event["event"] in ("delivered", "bounce"):
                    assert event["event"] == row["final_event"]

            async def settled() -> bool:
                path = "/sandbox/sendgrid/ledger"
                totals = (await asked(session, second.url, "GET", path, None, KEY)).body
                return bool(totals["emails_with_pending_events"] == 0)

            await eventually(settled, 240)
            posts = len(receiver.posts)
        async with sandbox_process(tmp_path, KNOBS=knobs) as third:
            ledger = await asked(session, third.url, "GET", "/sandbox/sendgrid/ledger", None, KEY)
            assert ledger.body["emails_with_pending_events"] == 0
            page = "/sandbox/emails/recent"
            recent = (await asked(session, third.url, "GET", page, None, KEY)).body["emails"]
            assert (len(recent), recent[0]["subject"]) == (100, "Hello")
            assert len(receiver.posts) == posts
