"""The endpoint of Twilio's webhooks: check, store in the inbox, answer.

2xx only once it is stored; a 5xx makes Twilio try again (our callback URL asks for five retries).
A receipt that the inbox loses is looked up later; a reply (STOP, START) that it loses is lost. So a
reply is committed first, and stored only while that can't be: Twilio tries a webhook again for some
seconds at most, so a 5xx would sooner lose it than a store that is there.
The URL that is signed is the configured one: behind a proxy the request's own is another.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

import grpc.aio
import structlog
from aiohttp import web
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from outreach.jetstream.publisher import NotStored
from outreach.sending.attempt_token import AttemptId, InvalidToken, TokenKey
from outreach.sending.contents import NO_ACCOUNT_CODES, Accounts
from outreach.sending.endpoint import HEALTH_PATH, Faults, Refused, health, read_body
from outreach.sending.inbox import Inbox, InboxEntry
from outreach.sending.opt_outs import Commit
from services.sender_sms.events import (
    ACTION_FIELD,
    FROM_FIELD,
    STATUS_FIELDS,
    is_known_status,
    opt_out_action,
    reply_opt_out,
)
from services.sender_sms.form import INBOUND_PATH, STATUS_PATH
from services.sender_sms.transport import FORM_TYPE

BODY_BYTES_MAX: Final = 64 * 1024
FIELDS_MAX: Final = 200
SIGNATURE_HEADER: Final = "X-Twilio-Signature"
IDEMPOTENCY_HEADER: Final = "I-Twilio-Idempotency-Token"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Target:
    """Whom a webhook is about, and the path it was signed with."""

    organisation_id: UUID
    attempt: AttemptId | None
    path: str


class Webhooks:
    """Handles every request of the endpoint; `handle` is an aiohttp low-level handler."""

    def __init__(
        self,
        *,
        commit: Commit,
        inbox: Inbox,
        accounts: Accounts,
        token_key: TokenKey,
        webhook_url: str,
        faults: Faults,
    ) -> None:
        self._commit = commit
        self._inbox = inbox
        self._accounts = accounts
        self._token_key = token_key
        self._webhook_url = webhook_url
        self._faults = faults

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request: `/healthz`, a status callback, an inbound message, or 404."""
        if request.path == HEALTH_PATH:
            return health(self._faults)
        try:
            target = self._target(request)
            fields = await _read_form(request)
            await self._check_signature(request, target, fields)
            await self._store(request, target, fields)
        except Refused as refused:
            return web.Response(status=refused.status)
        return web.Response(status=204)

    def _target(self, request: web.BaseRequest) -> _Target:
        path = request.path
        try:
            if path.startswith(STATUS_PATH):
                attempt = self._token_key.read_attempt(path[len(STATUS_PATH) :])
                target = _Target(attempt.organisation_id, attempt, path)
            elif path.startswith(INBOUND_PATH):
                organisation_id = self._token_key.read_organisation(path[len(INBOUND_PATH) :])
                target = _Target(organisation_id, None, path)
            else:
                raise Refused(404)
        except InvalidToken as error:
            raise Refused(404) from error
        if request.method != "POST":
            raise Refused(405)
        return target

    async def _check_signature(
        self, request: web.BaseRequest, target: _Target, fields: "MultiDict[str]"
    ) -> None:
        signature = request.headers.get(SIGNATURE_HEADER, "")
        if not signature:
            raise Refused(403)
        try:
            account = await self._accounts.get(target.organisation_id)
        except grpc.aio.AioRpcError as error:
            raise Refused(404 if error.code() in NO_ACCOUNT_CODES else 503) from error
        # the query is signed as it was called; the fragment never arrives
        query = f"?{request.query_string}" if request.query_string else ""
        url = f"{self._webhook_url}{target.path}{query}"
        if not is_signed(account.twilio.auth_token, url, fields, signature):
            _log.warning("webhook_forged", organisation_id=str(target.organisation_id))
            raise Refused(403)

    async def _store(
        self, request: web.BaseRequest, target: _Target, fields: Mapping[str, str]
    ) -> None:
        kept = _kept_fields(target, fields)
        if kept is None:
            return  # verified, and nothing that concerns us
        entry = InboxEntry(target.organisation_id, target.attempt, kept, datetime.now(UTC))
        entry_id = _entry_id(request, target, fields)
        if target.attempt is None and await self._is_settled(entry, entry_id):
            return
        try:
            await self._inbox.store(entry, entry_id=entry_id)
        except NotStored as error:
            raise Refused(503) from error

    async def _is_settled(self, reply: InboxEntry, entry_id: str) -> bool:
        """Commit a reply, once: an old START that is posted again must not undo the STOP after it."""
        if self._inbox.knows(entry_id):
            return True
        if not await self._commit(reply_opt_out(reply)):
            return False
        self._inbox.remember(entry_id)
        return True


async def _read_form(request: web.BaseRequest) -> "MultiDict[str]":
    """The form as it was signed: blank values and repeated keys kept."""
    if request.content_type != FORM_TYPE:
        raise Refused(400)
    body = await read_body(request, BODY_BYTES_MAX)
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError as error:
        raise Refused(400) from error
    return MultiDict(pairs)


def is_signed(auth_token: str, url: str, fields: "MultiDict[str]", signature: str) -> bool:
    """Whether Twilio signed these fields for this URL.

    First the URL as it stands, which is nearly always right; then the package's own, slower
    validation, which also tries it with and without the port.
    """
    validator = RequestValidator(auth_token)
    computed: str = validator.compute_signature(url, fields)
    if hmac.compare_digest(computed.encode(), signature.encode()):
        return True
    return bool(validator.validate(url, fields, signature))


def _kept_fields(target: _Target, fields: Mapping[str, str]) -> dict[str, str] | None:
    if target.attempt is None:
        action = opt_out_action(fields)
        if action is None:
            return None
        sender = fields.get(FROM_FIELD, "")
        if not sender:
            raise Refused(400)
        return {FROM_FIELD: sender, ACTION_FIELD: action}
    kept = {name: fields[name] for name in STATUS_FIELDS if fields.get(name)}
    if "MessageSid" not in kept or "MessageStatus" not in kept:
        raise Refused(400)
    return kept if is_known_status(kept) else None


def _entry_id(request: web.BaseRequest, target: _Target, fields: Mapping[str, str]) -> str:
    """The same for a webhook and its repetitions, and of no other; no personal data in it.

    Of what is signed, where that has an id: a header could be another one each time.
    """
    parts = [target.path, *(fields.get(name, "") for name in STATUS_FIELDS)]
    if target.attempt is None:
        if not fields.get("MessageSid"):
            parts.append(request.headers.get(IDEMPOTENCY_HEADER, ""))
        parts += (fields.get("Body", ""), fields.get("OptOutType", ""))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
