"""The sandbox's own endpoints: `/healthz` and, under `/sandbox/`, knobs, fates, ledger, replies."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from services.sandbox.fates import STEPS, Fate
from services.sandbox.http import Answer, Request, json_answer
from services.sandbox.knob_store import KnobStore
from services.sandbox.knobs import Knobs
from services.sandbox.sendgrid import control as sendgrid_control
from services.sandbox.sendgrid.control import SendGridControl
from services.sandbox.twilio.callbacks import CallbackDispatcher
from services.sandbox.twilio.inbound import InboundMessage, InboundMessages
from services.sandbox.twilio.ledger import MessageLedger

LEDGER_PAGE_MAX = 10_000
RECENT_MESSAGES = 100

_log = structlog.get_logger("sandbox")

Model = TypeVar("Model", bound=BaseModel)


class _BadRequest(Exception):
    def __init__(self, problems: list[dict[str, str]]) -> None:
        super().__init__()
        self.problems = problems


class Control:
    """Answers what tests, the demo and people at a terminal ask the sandbox itself."""

    def __init__(
        self,
        knobs: KnobStore,
        ledger: MessageLedger,
        callbacks: CallbackDispatcher,
        inbound: InboundMessages,
        sendgrid: SendGridControl,
    ) -> None:
        self._sendgrid = sendgrid
        self._knobs = knobs
        self._ledger = ledger
        self._callbacks = callbacks
        self._inbound = inbound
        self._routes: dict[tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/sandbox/knobs"): self._get_knobs,
            ("PUT", "/sandbox/knobs"): self._put_knobs,
            ("PATCH", "/sandbox/knobs"): self._patch_knobs,
            ("GET", "/sandbox/fate"): self._get_fate,
            ("GET", "/sandbox/ledger"): self._get_ledger,
            ("DELETE", "/sandbox/ledger"): self._delete_ledger,
            ("GET", "/sandbox/ledger/messages"): self._get_messages,
            ("GET", "/sandbox/messages/recent"): self._get_recent,
            ("POST", "/sandbox/inbound"): self._post_inbound,
        }

    async def handle(self, request: Request) -> Answer:
        """The answer; 404 and 405 name what there is."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            answer = self._sendgrid.answer(request)
            if answer is not None:
                return answer
            methods = [method for method, path in self._routes if path == request.path]
            if methods:
                return json_answer(405, {"error": "method not allowed", "allowed": methods})
            paths = sorted({*(path for _, path in self._routes), *sendgrid_control.PATHS})
            return json_answer(404, {"error": "not found", "paths": paths})
        try:
            return await route(request)
        except _BadRequest as error:
            return json_answer(400, {"errors": error.problems})

    async def _healthz(self, _: Request) -> Answer:
        return json_answer(200, {"status": "ok"})

    async def _get_knobs(self, _: Request) -> Answer:
        return json_answer(200, self._knobs.knobs.model_dump(mode="json"), indent=True)

    async def _put_knobs(self, request: Request) -> Answer:
        return self._set_knobs(_parsed(Knobs, request.body))

    async def _patch_knobs(self, request: Request) -> Answer:
        changes = _parsed(Knobs, request.body).model_dump(exclude_unset=True)
        present = self._knobs.knobs.model_dump()
        if "email" in changes:
            changes["email"] = {**present["email"], **changes["email"]}
        try:
            knobs = Knobs.model_validate({**present, **changes})
        except ValidationError as error:
            raise _BadRequest(_problems(error)) from error
        return self._set_knobs(knobs)

    def _set_knobs(self, knobs: Knobs) -> Answer:
        self._knobs.set(knobs)
        changed = knobs.model_dump(mode="json", exclude_defaults=True)
        _log.info("knobs_set", not_default=changed)
        return json_answer(200, knobs.model_dump(mode="json"), indent=True)

    async def _get_fate(self, request: Request) -> Answer:
        asked = request.parameters()
        # A plus sign that was not encoded has become a space.
        email = asked.get("email", "").replace(" ", "+")
        if email:
            fate = self._knobs.email_fates.of(email)
            return json_answer(200, sendgrid_control.fate_resource(email, fate), indent=True)
        to = asked.get("to", "").replace(" ", "+")
        if not to:
            raise _BadRequest([{"field": "to", "problem": "the number (or email) is missing"}])
        return json_answer(200, _fate_resource(to, self._knobs.fates.of(to)), indent=True)

    async def _get_ledger(self, _: Request) -> Answer:
        totals = {**self._ledger.totals(), "callbacks": dict(self._callbacks.counts)}
        return json_answer(200, totals, indent=True)

    async def _delete_ledger(self, _: Request) -> Answer:
        self._callbacks.forget()
        self._ledger.reset()
        _log.info("ledger_reset")
        return json_answer(200, {"accepted": 0})

    async def _get_messages(self, request: Request) -> Answer:
        asked = request.parameters()
        after = _integer(asked, "after", default=-1, least=-1, most=2**32)
        limit = _integer(asked, "limit", default=1_000, least=1, most=LEDGER_PAGE_MAX)
        now, end = time.time(), min(after + 1 + limit, len(self._ledger))
        rows = [self._ledger.row(number, now)._asdict() for number in range(after + 1, end)]
        next_after = end - 1 if end < len(self._ledger) else None
        return json_answer(200, {"messages": rows, "next_after": next_after})

    async def _get_recent(self, _: Request) -> Answer:
        now, end = time.time(), len(self._ledger)
        rows = [
            {**self._ledger.row(number, now)._asdict(), "body": self._ledger.contents(number).body}
            for number in range(end - 1, max(end - 1 - RECENT_MESSAGES, -1), -1)
        ]
        return json_answer(200, {"messages": rows}, indent=True)

    async def _post_inbound(self, request: Request) -> Answer:
        message = _parsed(InboundMessage, request.body)
        return json_answer(200, await self._inbound.receive(message))


def _fate_resource(to: str, fate: Fate) -> dict[str, object]:
    resource = asdict(fate)
    for name in ("lost_steps", "duplicated_steps"):
        resource[name] = [step for bit, step in enumerate(STEPS) if resource[name] >> bit & 1]
    return {"to": to, **resource, "receipt": fate.receipt}


def _parsed(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _BadRequest(_problems(error)) from error


def _problems(error: ValidationError) -> list[dict[str, str]]:
    return [
        {"field": ".".join(map(str, problem["loc"])) or "(all)", "problem": problem["msg"]}
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _integer(asked: dict[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = asked.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        problem = f"must be an integer from {least} to {most}"
        raise _BadRequest([{"field": name, "problem": problem}])
    return value
