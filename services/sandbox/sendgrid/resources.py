"""The endpoints under `/v3/` beside mail/send: suppressions, look-ups, account and webhook."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import orjson

from services.sandbox.http import Answer, Request, json_answer
from services.sandbox.sendgrid.account import SendGridAccount
from services.sandbox.sendgrid.errors import (
    BAD_REQUEST,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    FieldError,
    error_answer,
)
from services.sandbox.sendgrid.event_webhook import EventWebhook
from services.sandbox.sendgrid.knobs import EVENT_TYPES, EmailKnobs
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.look_ups import LIMIT_DEFAULT, LIMIT_MAX, BadQuery, LookUps
from services.sandbox.sendgrid.signing import WebhookKey
from services.sandbox.sendgrid.suppressions import LISTS, Suppressed
from services.sandbox.sendgrid.validation import ADDRESS

_PAGE_MAX = 500
_WEBHOOK_ID = "5a17d0b0-c5a1-4d0b-8c5a-17d0b0c5a17d"


class SendGridResources:
    """Answers all but mail/send; authentication lies before it."""

    def __init__(
        self,
        account: SendGridAccount,
        ledger: EmailLedger,
        webhook: EventWebhook,
        key: WebhookKey,
        knobs: Callable[[], EmailKnobs],
    ) -> None:
        self._account = account
        self._ledger = ledger
        self._webhook = webhook
        self._key = key
        self._knobs = knobs
        self._look_ups = LookUps(ledger, lambda: knobs().look_up_lag_seconds)

    def answer(self, request: Request) -> Answer:
        """The answer to a request whose path begins with `/v3/`."""
        parts = tuple(unquote(part) for part in request.path.strip("/").split("/")[1:])
        if parts[:1] == ("messages",) and "email_activity.read" not in self._knobs().scopes:
            return error_answer(403, FORBIDDEN)
        try:
            answer = self._routed(request.method, parts, request)
        except (ValueError, KeyError, TypeError):
            # Also BadQuery: the body or the query is not what this endpoint takes.
            return error_answer(400, BAD_REQUEST)
        return answer

    def _routed(self, method: str, parts: tuple[str, ...], request: Request) -> Answer:
        match parts:
            case ("scopes",) if method == "GET":
                return json_answer(200, {"scopes": list(self._knobs().scopes)})
            case ("verified_senders",) if method == "GET":
                return json_answer(200, self._account.verified_senders_resource())
            case ("whitelabel", "domains") if method == "GET":
                return json_answer(200, self._account.domains_resource())
            case ("messages",) if method == "GET":
                asked = request.parameters()
                return self._queried(asked.get("query", ""), asked.get("limit"), logs=False)
            case ("messages", message_id) if method == "GET":
                return _found(self._look_ups.message(message_id))
            case ("logs",) if method == "POST":
                body = _object(request.body)
                return self._queried(body.get("query", ""), body.get("limit"), logs=True)
            case ("logs", message_id) if method == "GET":
                return _found(self._look_ups.log(message_id))
            case ("asm", "suppressions", "global", *rest):
                return self._global(method, rest, request)
            case ("suppression", name, *rest) if name in LISTS:
                return self._list(method, name, rest, request)
            case ("user", "webhooks", "event", "settings", *rest):
                return self._webhook_settings(method, rest, request)
            case ("scopes" | "verified_senders" | "messages" | "logs", *_):
                return error_answer(405, METHOD_NOT_ALLOWED)
        return error_answer(404, NOT_FOUND)

    # Look-ups

    def _queried(self, query: Any, limit: Any, *, logs: bool) -> Answer:
        number = LIMIT_DEFAULT if limit is None else int(limit)
        if not isinstance(query, str) or not 1 <= number <= LIMIT_MAX:
            field = "query" if not isinstance(query, str) else "limit"
            return error_answer(400, FieldError(f"invalid {field}", field))
        look_up = self._look_ups.logs if logs else self._look_ups.messages
        try:
            return json_answer(200, {"messages": look_up(query, number)})
        except BadQuery as error:
            return error_answer(400, FieldError(str(error), "query"))

    # Suppressions

    def _global(self, method: str, rest: list[str], request: Request) -> Answer:
        suppressions = self._ledger.suppressions
        match method, rest:
            case "POST", []:
                emails = _emails(_object(request.body)["recipient_emails"])
                for email in emails:
                    suppressions.add("unsubscribes", email)
                return json_answer(201, {"recipient_emails": emails})
            case "GET", []:
                return self._list("GET", "unsubscribes", [], request)
            case "GET", [email]:
                found = suppressions.of("unsubscribes", email)
                return json_answer(200, {"recipient_email": email} if found else {})
            case "DELETE", [email]:
                suppressions.remove("unsubscribes", email)
                return Answer(204)
        return error_answer(405, METHOD_NOT_ALLOWED)

    def _list(self, method: str, name: str, rest: list[str], request: Request) -> Answer:
        suppressions = self._ledger.suppressions
        match method, rest:
            case "GET", []:
                return json_answer(200, self._page(name, request.parameters()))
            case "GET", [email]:
                entry = suppressions.of(name, email)
                return json_answer(200, [_entry(name, email.lower(), entry)] if entry else [])
            case "DELETE", [email]:
                return Answer(204) if suppressions.remove(name, email) else error_answer(
                    404, NOT_FOUND
                )  # fmt: skip
            case "DELETE", []:
                body = _object(request.body)
                entries = list(suppressions.entries(name))
                for email in entries if body.get("delete_all") else _emails(body["emails"]):
                    suppressions.remove(name, email)
                return Answer(204)
        return error_answer(405, METHOD_NOT_ALLOWED)

    def _page(self, name: str, asked: dict[str, str]) -> list[dict[str, Any]]:
        start, end = int(asked.get("start_time", 0)), int(asked.get("end_time", 2**53))
        offset, limit = int(asked.get("offset", 0)), int(asked.get("limit", _PAGE_MAX))
        if offset < 0 or not 1 <= limit <= _PAGE_MAX:
            raise ValueError("offset or limit")
        found = [
            _entry(name, email, entry)
            for email, entry in self._ledger.suppressions.entries(name).items()
            if start <= entry.created <= end
        ]
        return found[offset : offset + limit]

    # Event webhook

    def _webhook_settings(self, method: str, rest: list[str], request: Request) -> Answer:
        match method, rest:
            case "GET", ["signed"] | ["signed", _]:
                body = {"id": _WEBHOOK_ID, "public_key": self._key.public_key}
                return json_answer(200, body)
            case "GET", [] | ["all"] | [_]:
                settings = self._settings()
                if rest == ["all"]:
                    return json_answer(200, {"webhooks": [settings], "max_allowed": 5})
                return json_answer(200, settings)
            case "PATCH", [] | [_]:
                body = _object(request.body)
                url: Any = body.get("url", self._webhook.url)
                if url is not None and not (isinstance(url, str) and url.startswith("http")):
                    return error_answer(400, FieldError("invalid url", "url"))
                self._webhook.set_url(url)
                return json_answer(200, self._settings())
        return error_answer(405, METHOD_NOT_ALLOWED)

    def _settings(self) -> dict[str, Any]:
        posted = self._knobs().event_types
        names = {"spamreport": "spam_report"}
        return {
            "id": _WEBHOOK_ID,
            "friendly_name": "Outreach",
            "enabled": self._knobs().events_enabled and self._webhook.url is not None,
            "url": self._webhook.url or "",
            **{names.get(kind, kind): kind in posted for kind in EVENT_TYPES},
            "public_key": self._key.public_key,
        }


def _object(body: bytes) -> dict[str, Any]:
    given = orjson.loads(body)
    if not isinstance(given, dict):
        raise TypeError("not an object")
    return given


def _emails(given: Any) -> list[str]:
    if not isinstance(given, list):
        raise TypeError("not a list")
    for email in given:
        if not isinstance(email, str) or not ADDRESS.fullmatch(email):
            raise ValueError("not an address")
    return given


def _entry(name: str, email: str, entry: Suppressed) -> dict[str, Any]:
    resource: dict[str, Any] = {"created": entry.created, "email": email}
    if name in ("bounces", "blocks", "invalid_emails"):
        resource |= {"reason": entry.reason, "status": entry.status}
    if name == "spam_reports":
        resource |= {"ip": "203.0.113.40"}
    return resource


def _found(resource: dict[str, Any] | None) -> Answer:
    return error_answer(404, NOT_FOUND) if resource is None else json_answer(200, resource)
