"""The sandbox's own endpoints for emails: `/sandbox/emails` and `/sandbox/sendgrid/`."""

import time
from base64 import b64decode
from typing import Any
from urllib.parse import quote, unquote

import structlog

from services.sandbox.http import Answer, Request, json_answer
from services.sandbox.sendgrid.event_webhook import EventWebhook
from services.sandbox.sendgrid.events import happened
from services.sandbox.sendgrid.fates import EmailFate, steps_of
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.pages import email_page, html_part, list_page
from services.sandbox.sendgrid.signing import WebhookKey

LEDGER_PAGE_MAX = 10_000
RECENT_EMAILS = 100

PATHS = (
    "/sandbox/emails",
    "/sandbox/emails/recent",
    "/sandbox/emails/{sg_message_id}",
    "/sandbox/sendgrid/ledger",
    "/sandbox/sendgrid/ledger/emails",
    "/sandbox/sendgrid/public-key",
)

_log = structlog.get_logger("sandbox")


class SendGridControl:
    """Answers what tests, the demo and people ask about emails."""

    def __init__(self, ledger: EmailLedger, webhook: EventWebhook, key: WebhookKey) -> None:
        self._ledger = ledger
        self._webhook = webhook
        self._key = key

    def answer(self, request: Request) -> Answer | None:
        """The answer; none if the path is not one of these."""
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        match request.method, parts[1:]:
            case "GET", ["sendgrid", "public-key"]:
                return Answer(200, self._key.public_key.encode(), {"Content-Type": "text/plain"})
            case "GET", ["sendgrid", "ledger"]:
                totals = {**self._ledger.totals(), "events": dict(self._webhook.counts)}
                return json_answer(200, totals, indent=True)
            case "DELETE", ["sendgrid", "ledger"]:
                self._webhook.forget()
                self._ledger.reset()
                _log.info("email_ledger_reset")
                return json_answer(200, {"accepted": 0})
            case "GET", ["sendgrid", "ledger", "emails"]:
                return self._rows(request.parameters())
            case "GET", ["emails"]:
                return self._list()
            case "GET", ["emails", "recent"]:
                return self._recent()
            case "GET", ["emails", name, *rest]:
                return self._email(name, rest)
        return None

    def _rows(self, asked: dict[str, str]) -> Answer:
        try:
            after, limit = int(asked.get("after", "-1")), int(asked.get("limit", "1000"))
        except ValueError:
            after, limit = -2, 0
        if after < -1 or not 1 <= limit <= LEDGER_PAGE_MAX:
            problem = f"after is from -1, limit from 1 to {LEDGER_PAGE_MAX}"
            return json_answer(400, {"errors": [{"field": "after, limit", "problem": problem}]})
        end = min(after + 1 + limit, len(self._ledger))
        rows = [
            self._ledger.row(number, self._status(number))._asdict()
            for number in range(after + 1, end)
        ]
        next_after = end - 1 if end < len(self._ledger) else None
        return json_answer(200, {"emails": rows, "next_after": next_after})

    def _status(self, number: int) -> str:
        """The type of the last event; `accepted` before there is one."""
        events = happened(self._ledger, number, time.time())
        return events[-1].type if events else "accepted"

    def _recent_numbers(self) -> list[int]:
        numbers = self._ledger.newest_first()
        return [number for number, _ in zip(numbers, range(RECENT_EMAILS), strict=False)]

    def _recent(self) -> Answer:
        rows = [
            {
                **self._ledger.row(number, self._status(number))._asdict(),
                "subject": self._ledger.rendered(number).subject,
                "page": f"/sandbox/emails/{quote(self._ledger.sg_message_id(number))}",
            }
            for number in self._recent_numbers()
        ]
        return json_answer(200, {"emails": rows}, indent=True)

    def _list(self) -> Answer:
        ledger = self._ledger
        return list_page(
            [
                (
                    ledger.sg_message_id(number),
                    ledger.email(number),
                    ledger.rendered(number).subject,
                    self._status(number),
                )
                for number in self._recent_numbers()
            ]
        )

    def _email(self, name: str, rest: list[str]) -> Answer | None:
        suffix = next((end for end in (".html", ".json") if name.endswith(end)), "")
        number = self._ledger.number_of(name.removesuffix(suffix))
        if number is None:
            return json_answer(404, {"error": "no such email"})
        email = self._ledger.rendered(number)
        match suffix, rest:
            case "", []:
                sg_message_id = self._ledger.sg_message_id(number)
                return email_page(sg_message_id, self._status(number), email)
            case ".html", []:
                return html_part(email)
            case ".json", []:
                return json_answer(200, self._resource(number), indent=True)
            case "", ["attachments", at] if at.isdecimal() and int(at) < len(email.attachments):
                one = email.attachments[int(at)]
                filename = quote(one.filename, safe="")
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Disposition": f"attachment; filename*=UTF-8''{filename}",
                    "X-Content-Type-Options": "nosniff",
                }
                return Answer(200, b64decode(one.content), headers)
        return json_answer(404, {"error": "no such part of the email"})

    def _resource(self, number: int) -> dict[str, Any]:
        email = self._ledger.rendered(number)
        return {
            **self._ledger.row(number, self._status(number))._asdict(),
            "subject": email.subject,
            "headers": email.headers,
            "html": email.html,
            "text": email.text,
            "custom_args": email.custom_args,
            "categories": email.categories,
            "attachments": [
                {
                    "filename": one.filename,
                    "type": one.type,
                    "disposition": one.disposition,
                    "content_id": one.content_id,
                    "size_bytes": one.size_bytes,
                }
                for one in email.attachments
            ],
            "events": [
                {"event": event.type, "at": event.at}
                for event in happened(self._ledger, number, time.time())
            ],
        }


def fate_resource(email: str, fate: EmailFate) -> dict[str, Any]:
    """A fate as `GET /sandbox/fate?email=` shows it."""
    resource: dict[str, Any] = {"email": email, **fate._asdict()}
    for name in ("steps", "lost", "duplicated", "fields_missing"):
        resource[name] = steps_of(resource[name])
    return {
        **resource,
        "final_event": fate.final_event,
        "events": fate.events,
        "told": fate.told,
    }
