"""Twilio's REST API as far as a sender of messages uses it: create, fetch and list."""

import asyncio
import hmac
import re
import secrets
import time
from base64 import b64encode
from collections.abc import Callable

from outreach.template.segments import segments
from services.sandbox.fates import FINAL_STEP, STEPS, Fate, Fates, TransportFault
from services.sandbox.http import Answer, Request, json_answer
from services.sandbox.knobs import Knobs
from services.sandbox.twilio.callbacks import API_VERSION, CallbackDispatcher
from services.sandbox.twilio.errors import (
    AUTHENTICATE,
    INTERNAL_SERVER_ERROR,
    METHOD_NOT_ALLOWED,
    OUTAGES,
    TOO_MANY_REQUESTS,
    TwilioError,
    not_found,
    refusal,
)
from services.sandbox.twilio.ledger import Accepted, MessageLedger
from services.sandbox.twilio.resources import MessageResources
from services.sandbox.twilio.validation import Account, Draft, validated

PATH_PREFIX = f"/{API_VERSION}/"

_MESSAGE_PATH = re.compile(r"/Messages/(SM[0-9a-f]{32})\.json")
_DROPPED = Answer(0, dropped=True)


class TwilioApi:
    """Answers the requests under `/2010-04-01/`."""

    def __init__(
        self,
        account: Account,
        auth_token: str,
        ledger: MessageLedger,
        callbacks: CallbackDispatcher,
        fates: Callable[[], Fates],
    ) -> None:
        self._account = account
        credentials = f"{account.account_sid}:{auth_token}".encode()
        self._authorization = b"Basic " + b64encode(credentials)
        self._ledger = ledger
        self._callbacks = callbacks
        self._fates = fates
        self._resources = MessageResources(ledger, account)
        self._account_path = f"{PATH_PREFIX}Accounts/{account.account_sid}"
        self._messages_path = f"{self._account_path}/Messages.json"
        self._requests_open = 0
        self._requests = 0
        self._request_id_prefix = f"RQ{secrets.token_hex(8)}"

    async def handle(self, request: Request) -> Answer:
        """The answer, with the headers that Twilio puts on every one."""
        began = time.perf_counter()
        self._requests_open += 1
        self._requests += 1
        requests_open, request_id = self._requests_open, self._requests
        try:
            answer = await self._answer(request)
        except TwilioError as error:
            answer = _error_answer(error)
        finally:
            self._requests_open -= 1
        if answer.dropped:
            return answer
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            "Twilio-Concurrent-Requests": str(requests_open),
            "Twilio-Request-Id": f"{self._request_id_prefix}{request_id:016x}",
            "Twilio-Request-Duration": f"{time.perf_counter() - began:.3f}",
        }
        if answer.status == AUTHENTICATE.status:
            headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
        return Answer(answer.status, answer.body, headers)

    async def _answer(self, request: Request) -> Answer:
        authorization = request.authorization.encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(authorization, self._authorization):
            return _error_answer(AUTHENTICATE)
        creates = request.method == "POST" and request.path == self._messages_path
        knobs = self._fates().knobs
        if knobs.unavailable_status:
            self._ledger.count("unavailable", knobs.unavailable_status)
            return _error_answer(OUTAGES[knobs.unavailable_status])
        if knobs.concurrency_max and self._requests_open > knobs.concurrency_max:
            if creates:
                self._ledger.count(TransportFault.HTTP_429.value)
            return _error_answer(TOO_MANY_REQUESTS)
        if creates:
            return await self._create(request)
        return await self._read(request, knobs)

    async def _read(self, request: Request, knobs: Knobs) -> Answer:
        if knobs.latency_ms:
            await asyncio.sleep(knobs.latency_ms / 1000)
        path, now = request.path, time.time()
        if not path.startswith(self._account_path):
            raise not_found(path)
        if request.method != "GET":
            return _error_answer(METHOD_NOT_ALLOWED)
        if path == self._messages_path:
            asked = request.parameters()
            return json_answer(200, self._resources.page(asked, now, knobs.list_lag_seconds))
        if path == f"{self._account_path}.json":
            return json_answer(200, self._account_resource())
        found = _MESSAGE_PATH.fullmatch(path[len(self._account_path) :])
        number = self._ledger.number_of(found[1]) if found else None
        if number is None:
            raise not_found(path)
        return json_answer(200, self._resources.message(number, now))

    async def _create(self, request: Request) -> Answer:
        try:
            draft = validated(request.form(), self._account)
            if draft.to in self._ledger.opted_out:
                raise refusal(21610)
        except ValueError:
            self._ledger.count("rejected", 20001)
            raise refusal(20001, detail="the body is no form") from None
        except TwilioError as error:
            self._ledger.count("rejected", error.code)
            raise
        fate = self._fates().of(draft.to)
        # One half of the latency lies before the acceptance, one half after it.
        await _pause(fate.latency_seconds / 2)
        if fate.rejected_code is not None:
            self._ledger.count("rejected", fate.rejected_code)
            raise refusal(fate.rejected_code, to=draft.to, sender=draft.sender)
        fault = fate.transport_fault
        if fault is not None and not self._ledger.first_try(draft.to):
            fault = None
        if fault is not None:
            self._ledger.count(fault.value)
            if not fault.accepts:
                return _faulty_answer(fault)
        number = self._accept(draft, fate, request.arrived)
        if fate.early:
            await self._callbacks.make_now(number)
        else:
            self._callbacks.schedule(number)
        await _pause(fate.latency_seconds / 2)
        if fault is not None:
            return _faulty_answer(fault)
        sender = draft.sender or None
        return json_answer(201, self._resources.created(number, draft.body, sender))

    def _accept(self, draft: Draft, fate: Fate, arrived: float) -> int:
        steps = self._callback_steps(draft, fate) & ~fate.lost_steps
        numbers = self._account.sender_numbers
        return self._ledger.accept(
            Accepted(
                arrived=arrived,
                created=time.time(),
                to=draft.to,
                body=draft.body,
                # Sticky: the Messaging Service keeps one sender per recipient.
                sender=draft.sender or numbers[int(draft.to[1:]) % len(numbers)],
                with_service=draft.with_service,
                callback=draft.status_callback,
                segments=segments(draft.body).segments,
                fate=fate,
                steps=steps,
                steps_twice=fate.duplicated_steps & steps,
            )
        )

    def _callback_steps(self, draft: Draft, fate: Fate) -> int:
        knobs = self._fates().knobs
        if not draft.status_callback or not knobs.callbacks_enabled:
            return 0
        # The first status never has a callback: `accepted` with a Messaging Service, else `queued`.
        happens = {"queued"} if draft.with_service else set()
        if fate.final_status != "failed":
            happens |= {"sending", "sent"}
        steps = sum(
            1 << step
            for step, status in enumerate(STEPS)
            if status in happens and status in knobs.callback_statuses
        )
        return steps if fate.final_status == "sent" else steps | 1 << FINAL_STEP

    def _account_resource(self) -> dict[str, object]:
        return {
            "sid": self._account.account_sid,
            "friendly_name": "Outreach sandbox",
            "owner_account_sid": self._account.account_sid,
            "status": "active",
            "type": "Full",
            "uri": f"{self._account_path}.json",
        }


def _error_answer(error: TwilioError) -> Answer:
    return json_answer(error.status, error.body())


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _faulty_answer(fault: TransportFault) -> Answer:
    match fault:
        case TransportFault.HTTP_429:
            return _error_answer(TOO_MANY_REQUESTS)
        case TransportFault.HTTP_500_BEFORE_ACCEPT | TransportFault.HTTP_500_AFTER_ACCEPT:
            return _error_answer(INTERNAL_SERVER_ERROR)
        case TransportFault.DROP_BEFORE_ACCEPT | TransportFault.DROP_AFTER_ACCEPT:
            return _DROPPED
