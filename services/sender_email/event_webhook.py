"""SendGrid's event webhook: verify, keep what is needed of each event, store in the inbox, answer.

2xx only once all is stored; anything else makes SendGrid post it again for 24 hours. A post may hold
thousands of events: per event there is one token to verify, and nothing that waits.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import grpc.aio
import orjson
import structlog
from aiohttp import web

from outreach.jetstream.publisher import NotStored
from outreach.sending.attempt_token import InvalidToken, TokenKey
from outreach.sending.contents import NO_ACCOUNT_CODES
from outreach.sending.endpoint import Refused, read_body
from outreach.sending.inbox import Inbox, InboxEntry
from services.sender_email.event_fields import ACCOUNT_EVENT, EVENT, TYPE, kept_fields
from services.sender_email.webhook_keys import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    NoKey,
    SignedBody,
    WebhookKeys,
)

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
#: Late posts are signed with the time of their event, or of their own: both are taken.
PAST_SECONDS_MAX: Final = 25 * 3600.0
FUTURE_SECONDS_MAX: Final = 5 * 60.0
#: The custom argument that carries an attempt's token.
ATTEMPT_ARGUMENT: Final = "attempt_id"
#: Events between two turns of other tasks.
EVENTS_AT_A_TIME: Final = 1_000
EVENT_ID_CHARACTERS_MAX: Final = 128

_TIMESTAMP: Final = re.compile(r"[0-9]{1,11}")
_KEYWORD: Final = re.compile(r"[a-z_]{1,40}")
_log = structlog.get_logger(__name__)


class _Taken:
    """What is to be stored of a post, and what it was made of (for the log)."""

    def __init__(self) -> None:
        self.items: list[tuple[str, InboxEntry]] = []
        self.counts: Counter[str] = Counter()
        self.account_status = ""


class EventWebhook:
    """Takes posts of events.

    `past_seconds_max`, `future_seconds_max`: how far the signed time may be from now.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        keys: WebhookKeys,
        token_key: TokenKey,
        past_seconds_max: float = PAST_SECONDS_MAX,
        future_seconds_max: float = FUTURE_SECONDS_MAX,
    ) -> None:
        self._inbox = inbox
        self._keys = keys
        self._token_key = token_key
        self._past_seconds_max = past_seconds_max
        self._future_seconds_max = future_seconds_max

    async def take(self, request: web.BaseRequest, token: str) -> None:
        """Returns when all is stored. Raises Refused otherwise; one log line either way."""
        try:
            organisation_id = self._token_key.read_organisation(token)
        except InvalidToken as error:
            raise Refused(404) from error
        if request.method != "POST":
            raise Refused(405)
        body = await read_body(request, BODY_BYTES_MAX)
        await self._check_signature(request, organisation_id, body)
        try:
            events = orjson.loads(body)
        except ValueError:
            events = None
        if not isinstance(events, list):
            _log.warning("events_malformed", organisation_id=str(organisation_id), size=len(body))
            raise Refused(400)
        taken = await self._read(events, organisation_id, token)
        await self._store(taken, organisation_id, len(events))

    async def _check_signature(
        self, request: web.BaseRequest, organisation_id: UUID, body: bytes
    ) -> None:
        timestamp = request.headers.get(TIMESTAMP_HEADER, "")
        try:
            signed = SignedBody.read(timestamp, body, request.headers.get(SIGNATURE_HEADER, ""))
            forged = not await self._keys.is_signed(organisation_id, signed)
        except ValueError:
            forged = True
        except NoKey as error:
            raise Refused(503) from error
        except grpc.aio.AioRpcError as error:
            raise Refused(404 if error.code() in NO_ACCOUNT_CODES else 503) from error
        if forged:
            _log.warning("webhook_forged", organisation_id=str(organisation_id))
            raise Refused(403)
        if not self._is_timely(timestamp):
            _log.warning("webhook_stale", organisation_id=str(organisation_id))
            raise Refused(403)

    def _is_timely(self, timestamp: str) -> bool:
        if not _TIMESTAMP.fullmatch(timestamp):
            return False
        age = time.time() - int(timestamp)
        return -self._future_seconds_max <= age <= self._past_seconds_max

    async def _read(self, events: Sequence[Any], organisation_id: UUID, token: str) -> _Taken:
        taken = _Taken()
        now = datetime.now(UTC)
        for first in range(0, len(events), EVENTS_AT_A_TIME):
            if first:
                await asyncio.sleep(0)
            self._read_some(
                events[first : first + EVENTS_AT_A_TIME], organisation_id, token, now, taken
            )
        return taken

    def _read_some(
        self,
        events: Sequence[Any],
        organisation_id: UUID,
        token: str,
        now: datetime,
        taken: _Taken,
    ) -> None:
        counts, read_attempt, now_seconds = (
            taken.counts,
            self._token_key.read_attempt,
            now.timestamp(),
        )
        for event in events:
            kept = kept_fields(event) if isinstance(event, dict) else None
            if kept is None:
                counts["ignored"] += 1
                taken.account_status = _account_status(event) or taken.account_status
                continue
            try:
                attempt = read_attempt(event[ATTEMPT_ARGUMENT])
            except (KeyError, TypeError, AttributeError, InvalidToken):
                attempt = None  # of other mail of the account, or sent under a former key
            if attempt is None or attempt.organisation_id != organisation_id:
                counts["unknown"] += 1
                continue
            told = event.get("timestamp")
            is_past = isinstance(told, int) and 0 < told < now_seconds
            event_time = datetime.fromtimestamp(told, UTC) if is_past else now
            entry = InboxEntry(organisation_id, attempt, kept, event_time)
            taken.items.append((_entry_id(token, event.get("sg_event_id")), entry))

    async def _store(self, taken: _Taken, organisation_id: UUID, events: int) -> None:
        try:
            stored = await self._inbox.store_many(taken.items)
        except NotStored as error:
            _log.warning("events_not_stored", organisation_id=str(organisation_id), events=events)
            raise Refused(503) from error
        said = {"account_status": taken.account_status} if taken.account_status else {}
        _log.info(
            "events_taken",
            organisation_id=str(organisation_id),
            events=events,
            stored=stored,
            repeated=len(taken.items) - stored,
            unknown=taken.counts["unknown"],
            ignored=taken.counts["ignored"],
            **said,
        )


def _entry_id(token: str, event_id: object) -> str:
    """Of an event, in its organisation; empty where SendGrid gives none."""
    has_id = isinstance(event_id, str) and 0 < len(event_id) <= EVENT_ID_CHARACTERS_MAX
    return f"{token}{event_id}" if has_id else ""


def _account_status(event: object) -> str:
    """What became of the account, by SendGrid's keyword (`compliance_suspend`)."""
    if not isinstance(event, dict) or event.get(EVENT) != ACCOUNT_EVENT:
        return ""
    status = event.get(TYPE)
    return status if isinstance(status, str) and _KEYWORD.fullmatch(status) else ""
