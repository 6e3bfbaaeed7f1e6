"""SendGrid's v3 API: authentication, rate limit, and mail/send with its faults."""

import asyncio
import hmac
import math
import time
from collections.abc import Callable

import orjson

from services.sandbox.fates import TransportFault
from services.sandbox.http import Answer, Request
from services.sandbox.sendgrid.account import ASM_GROUPS, SendGridAccount
from services.sandbox.sendgrid.errors import (
    BAD_REQUEST,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    OUTAGES,
    SENDER_NOT_VERIFIED,
    SERVER_ERROR,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    UNSUPPORTED_MEDIA_TYPE,
    FieldError,
    error_answer,
)
from services.sandbox.sendgrid.event_webhook import EventWebhook
from services.sandbox.sendgrid.fates import EmailFate, EmailFates, dropped
from services.sandbox.sendgrid.knobs import EmailKnobs
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.resources import SendGridResources
from services.sandbox.sendgrid.schedule import timing_of
from services.sandbox.sendgrid.validation import Draft, RequestRefused, is_enabled, validated

PATH_PREFIX = "/v3/"
SEND_PATH = "/v3/mail/send"

_DROPPED = Answer(0, dropped=True)


class _RateLimit:
    """Requests in the present window; the limit starts afresh when a window ends."""

    def __init__(self) -> None:
        self._window_ends = 0
        self._requests = 0

    def headers(self, requests_max: int, window_seconds: int, now: float) -> dict[str, str]:
        """Count a request; the headers of its answer. `X-RateLimit-Remaining` is -1 above it."""
        if now >= self._window_ends:
            self._window_ends = math.floor(now) + window_seconds
            self._requests = 0
        self._requests += 1
        return {
            "X-RateLimit-Limit": str(requests_max),
            "X-RateLimit-Remaining": str(max(requests_max - self._requests, -1)),
            "X-RateLimit-Reset": str(self._window_ends),
        }


class SendGridApi:
    """Answers the requests under `/v3/`."""

    def __init__(
        self,
        account: SendGridAccount,
        ledger: EmailLedger,
        webhook: EventWebhook,
        resources: SendGridResources,
        fates: Callable[[], EmailFates],
    ) -> None:
        self._account = account
        self._authorization = f"Bearer {account.api_key}".encode()
        self._ledger = ledger
        self._webhook = webhook
        self._resources = resources
        self._fates = fates
        self._limit = _RateLimit()

    async def handle(self, request: Request) -> Answer:
        """The answer; a dropped one for a connection that is closed instead."""
        authorization = request.authorization.encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(authorization, self._authorization):
            return error_answer(401, UNAUTHORIZED)
        fates = self._fates()
        if fates.knobs.unavailable_status:
            return self._outage(fates.knobs)
        if request.path != SEND_PATH:
            await _pause(fates.knobs.latency_ms / 1000)
            return self._resources.answer(request)
        if request.method != "POST":
            return error_answer(405, METHOD_NOT_ALLOWED)
        return await self._send(request, fates)

    def _outage(self, knobs: EmailKnobs) -> Answer:
        status = knobs.unavailable_status
        self._ledger.count("unavailable")
        answer = error_answer(status, OUTAGES[status])
        if status != 429:
            return answer
        reset = math.ceil(time.time()) + knobs.http_429_reset_seconds
        limit = {"X-RateLimit-Limit": str(knobs.rate_limit_requests), **_NONE_REMAINING}
        return _with(answer, {**limit, "X-RateLimit-Reset": str(reset)})

    async def _send(self, request: Request, fates: EmailFates) -> Answer:
        knobs, now = fates.knobs, time.time()
        limit = self._limit.headers(knobs.rate_limit_requests, knobs.rate_limit_window_seconds, now)
        if limit["X-RateLimit-Remaining"] == "-1":
            self._ledger.count("throttled")
            return _with(error_answer(429, TOO_MANY_REQUESTS), {**limit, **_NONE_REMAINING})
        refused = self._refused(request, fates)
        if refused is not None:
            self._ledger.count(f"http_{refused.status}")
            return _with(refused, limit)
        try:
            draft = validated(orjson.loads(request.body), now, ASM_GROUPS)
        except ValueError:
            self._ledger.count("http_400")
            return _with(error_answer(400, BAD_REQUEST), limit)
        except RequestRefused as refusal:
            self._ledger.count("http_400")
            return _with(error_answer(400, *refusal.errors), limit)
        if not all(map(self._account.may_send_as, draft.senders())):
            self._ledger.count("http_403")
            return _with(error_answer(403, SENDER_NOT_VERIFIED), limit)
        if draft.sandbox_mode:
            return Answer(200, headers=limit)
        return await self._accept(draft, fates, limit, request.arrived)

    def _refused(self, request: Request, fates: EmailFates) -> Answer | None:
        knobs = fates.knobs
        if request.body_cut or len(request.body) > knobs.request_bytes_max:
            return TOO_LARGE
        if request.content_type.partition(";")[0].strip().lower() != "application/json":
            return error_answer(415, UNSUPPORTED_MEDIA_TYPE)
        if "mail.send" not in knobs.scopes:
            return error_answer(403, FORBIDDEN)
        return None

    async def _accept(
        self, draft: Draft, fates: EmailFates, limit: dict[str, str], arrived: float
    ) -> Answer:
        drawn = [[fates.of(email) for email in emails] for emails in draft.recipients]
        # One half of the latency lies before the acceptance, one half after it.
        await _pause(fates.knobs.latency_ms / 2000)
        rejection = _rejection(draft, drawn)
        if rejection is not None:
            self._ledger.count("http_400")
            return _with(rejection, limit)
        fault = fates.request_fault(draft.first_email)
        if fault is not None and not self._ledger.first_try(draft.first_email):
            fault = None
        if fault is not None:
            self._ledger.count(fault.value)
            if not fault.accepts:
                return _faulty_answer(fault, limit, fates.knobs.http_429_reset_seconds)
        if not is_enabled(draft.shared, "bypass_list_management"):
            self._drop_suppressed(draft, drawn)
        created = max(time.time(), draft.send_at or 0)
        times = (arrived, created)
        numbers = self._ledger.accept(draft, drawn, times, timing_of(fates.knobs))
        self._webhook.schedule(numbers)
        await _pause(fates.knobs.latency_ms / 2000)
        if fault is not None:
            return _faulty_answer(fault, limit, 0)
        message_id = self._ledger.message_id(numbers[0])
        return Answer(202, headers={**limit, "X-Message-Id": message_id})

    def _drop_suppressed(self, draft: Draft, drawn: list[list[EmailFate]]) -> None:
        past_bounces = is_enabled(draft.shared, "bypass_bounce_management")
        for emails, fates in zip(draft.recipients, drawn, strict=True):
            for at, email in enumerate(emails):
                reason = self._ledger.suppressions.drop_reason(email, past_bounces=past_bounces)
                if reason is not None:
                    fates[at] = dropped(fates[at], reason)


_NONE_REMAINING = {"X-RateLimit-Remaining": "0"}


def _rejection(draft: Draft, drawn: list[list[EmailFate]]) -> Answer | None:
    named = []
    for at, fates in enumerate(drawn):
        # Copies come after the addresses of `to`, and are refused without a name.
        for place, _ in enumerate(draft.personalizations[at]["to"]):
            if fates[place].rejection == "named":
                field = f"personalizations.{at}.to.{place}.email"
                text = "Does not contain a valid address."
                named.append(FieldError(text, field, "message.personalizations.to"))
    if named:
        return error_answer(400, *named)
    if any(fate.rejection for fates in drawn for fate in fates):
        return error_answer(400, BAD_REQUEST)
    return None


def _with(answer: Answer, headers: dict[str, str]) -> Answer:
    return Answer(answer.status, answer.body, {**answer.headers, **headers})


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _faulty_answer(fault: TransportFault, limit: dict[str, str], reset_seconds: int) -> Answer:
    match fault:
        case TransportFault.HTTP_429:
            reset = {"X-RateLimit-Reset": str(math.ceil(time.time()) + reset_seconds)}
            return _with(
                error_answer(429, TOO_MANY_REQUESTS), {**limit, **_NONE_REMAINING, **reset}
            )
        case TransportFault.HTTP_500_BEFORE_ACCEPT | TransportFault.HTTP_500_AFTER_ACCEPT:
            return _with(error_answer(500, SERVER_ERROR), limit)
        case TransportFault.DROP_BEFORE_ACCEPT | TransportFault.DROP_AFTER_ACCEPT:
            return _DROPPED
