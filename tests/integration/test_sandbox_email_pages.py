"""Looking at sent emails over HTTP."""

from base64 import b64encode
from typing import Any

from tests.sandbox_email_parts import EmailBench, email_bench, personalization


async def _get(bench: EmailBench, path: str) -> tuple[int, dict[str, str], bytes]:
    async with bench.session.get(f"{bench.sandbox.url}{path}") as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def test_each_recipients_email_can_be_looked_at() -> None:
    async with email_bench() as bench:
        given: list[dict[str, Any]] = [
            personalization(
                f"ada{at}@example.org",
                substitutions={"%n%": f"<Ada {at}>"},
                headers={"X-N": str(at)},
            )
            for at in range(150)
        ]
        await bench.send(
            personalizations=given,
            subject="Hi %n%",
            content=[{"type": "text/html", "value": "<h1>%n%</h1>" + "é" * 70_000}],
            attachments=[
                {
                    "filename": 'ünï "x".txt',
                    "type": "text/html",
                    "content": b64encode(b"\0<b>").decode(),
                }
            ],
        )
        recent = (await bench.ask("GET", "/sandbox/emails/recent")).body["emails"]
        assert [one["email"] for one in recent] == [
            f"ada{149 - at}@example.org" for at in range(100)
        ]
        assert recent[0]["subject"] == "Hi <Ada 149>"

        status, headers, body = await _get(bench, recent[0]["page"])
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<h1>Hi &lt;Ada 149&gt;</h1>" in body
        assert b'<iframe sandbox=""' in body

        status, headers, body = await _get(bench, f"{recent[0]['page']}.html")
        assert status == 200
        assert headers["Content-Security-Policy"].startswith("sandbox;")
        assert body.decode() == "<h1><Ada 149></h1>" + "é" * 70_000

        shown = (await bench.ask("GET", f"{recent[3]['page']}.json")).body
        assert (shown["email"], shown["subject"]) == ("ada146@example.org", "Hi <Ada 146>")
        assert ["X-N", "146"] in shown["headers"]
        assert shown["attachments"][0]["size_bytes"] == 4

        status, headers, body = await _get(bench, f"{recent[0]['page']}/attachments/0")
        assert (status, body) == (200, b"\0<b>")
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''%C3%BCn")

        status, _, body = await _get(bench, "/sandbox/emails")
        assert status == 200
        assert body.count(b"Hi &lt;Ada") == 100


async def test_what_is_not_there_is_not_found() -> None:
    async with email_bench() as bench:
        assert (await _get(bench, "/sandbox/emails"))[0] == 200
        await bench.send("ada@example.org")
        (one,) = (await bench.ask("GET", "/sandbox/emails/recent")).body["emails"]
        other = one["page"][:-1] + "7"
        for path in (
            other,
            "/sandbox/emails/x",
            "/sandbox/emails/..",
            f"{one['page']}/attachments/0",
            f"{one['page']}/x",
            "/sandbox/sendgrid/x",
        ):
            assert (await _get(bench, path))[0] == 404, path
        assert (await bench.ask("GET", "/sandbox/sendgrid/ledger/emails?limit=x")).status == 400
        page = (await bench.ask("GET", "/sandbox/sendgrid/ledger/emails?after=0")).body
        assert page == {"emails": [], "next_after": None}
