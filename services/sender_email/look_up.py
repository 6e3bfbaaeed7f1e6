"""Asking SendGrid what became of an attempt, by the id that went with it in `custom_args`.

Email Activity finds it by that id, but is an add-on; Email Logs is asked for the recipient's emails
since the claim, each of which then tells its own. Lists and events may lag behind a send.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from multidict import CIMultiDict
from yarl import URL

from outreach.internal.v1 import delivery_pb2
from outreach.sending.outcomes import AttemptOutcome, merged
from outreach.sending.transport import HttpAnswer, HttpTransport
from outreach.vocabulary import Channel, FailureReason, Outcome
from services.sender_email.addresses import as_sent
from services.sender_email.answers import MESSAGE_ID_CHARACTERS_MAX
from services.sender_email.reasons import event_outcome

#: SendGrid's clock and ours may differ by this; its times are whole seconds.
CLOCK_SKEW: Final = timedelta(seconds=5)
#: Emails to one recipient that are asked for, one by one.
CANDIDATES_MAX: Final = 20
#: The account lacks the right, or the add-on.
_MISSING_STATUSES: Final = frozenset((403, 404))

#: What Email Activity calls the events of the webhook, where it has other names.
_EVENT_NAMES: Final = {
    "bounced": "bounce",
    "drop": "dropped",
    "spam_report": "spamreport",
}


class LookUp:
    """Look-ups with the key of one account. `api_url`: without a slash at its end."""

    def __init__(self, transport: HttpTransport, api_url: str, headers: CIMultiDict[str]) -> None:
        self._transport = transport
        self._api_url = api_url
        self._headers = headers

    async def find(
        self, attempt: delivery_pb2.UnknownAttempt, attempt_id: str
    ) -> AttemptOutcome | None:
        """What SendGrid knows of an attempt; NOT_FOUND: nothing (yet). None: it could not be asked."""
        listed = await self._get("messages", query=activity_query(attempt_id), limit="1")
        if listed is not None and listed.status in _MISSING_STATUSES:
            return await self._find_in_logs(attempt.message, attempt, attempt_id)
        ids = _ids(listed, "msg_id")
        if ids is None:
            return None
        if not ids:
            return _not_found(attempt.message)
        return await self._told(attempt.message, "messages", ids[0])

    async def _find_in_logs(
        self,
        message: delivery_pb2.ClaimedMessage,
        attempt: delivery_pb2.UnknownAttempt,
        attempt_id: str,
    ) -> AttemptOutcome | None:
        since = attempt.claim_time.ToDatetime(UTC) - CLOCK_SKEW
        asked = {"query": logs_query(as_sent(message.recipient), since), "limit": CANDIDATES_MAX}
        url = URL(self._api_url) / "v3" / "logs"
        listed = await self._transport.ask("POST", url, self._headers, orjson.dumps(asked))
        ids = _ids(listed, "sg_message_id")
        if ids is None:
            return None
        for message_id in ids:
            email = _json(await self._get("logs", message_id))
            if email is None:
                return None
            arguments = email.get("custom_args")
            if isinstance(arguments, Mapping) and arguments.get("attempt_id") == attempt_id:
                return _learned(message, message_id, email)
        return _not_found(message)

    async def _told(
        self, message: delivery_pb2.ClaimedMessage, resource: str, message_id: str
    ) -> AttemptOutcome:
        """The email exists; its events may not be had now."""
        return _learned(message, message_id, _json(await self._get(resource, message_id)) or {})

    async def _get(self, *path: str, **query: str) -> HttpAnswer | None:
        url = URL(self._api_url) / "v3"
        for part in path:
            url = url / part
        return await self._transport.get(url.with_query(query), self._headers)


def activity_query(attempt_id: str) -> str:
    """Email Activity's query for one attempt."""
    return f"(unique_args['attempt_id']=\"{attempt_id}\")"


def logs_query(recipient: str, since: datetime) -> str:
    """Email Logs' query for a recipient's emails."""
    quoted = recipient.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'to_email = "{quoted}" AND'
        f' sg_message_id_created_at >= TIMESTAMP "{since.strftime("%Y-%m-%dT%H:%M:%SZ")}"'
    )


def _not_found(message: delivery_pb2.ClaimedMessage) -> AttemptOutcome:
    return AttemptOutcome(message.number, message.attempt, Outcome.NOT_FOUND)


def _learned(
    message: delivery_pb2.ClaimedMessage, message_id: str, email: Mapping[str, Any]
) -> AttemptOutcome:
    """All that its events prove, taken together; that it was accepted, in any case."""

    def learned(
        outcome: Outcome, reason: FailureReason | None = None, code: str = ""
    ) -> AttemptOutcome:
        return AttemptOutcome(message.number, message.attempt, outcome, message_id, reason, code)

    together = learned(Outcome.ACCEPTED)
    for event in _events(email):
        proved = event_outcome(event)
        if proved is not None:
            together = merged(together, learned(*proved), Channel.EMAIL)
    return together


def _events(email: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events as the webhook would have told them."""
    events = email.get("events")
    for raw in events if isinstance(events, list) else ():
        if not isinstance(raw, Mapping):
            continue
        event = dict(raw)
        name = raw.get("event") or raw.get("event_name")
        event["event"] = _EVENT_NAMES.get(str(name), str(name))
        if "bounce_type" in raw:
            event["type"] = raw["bounce_type"]
        yield event


def _json(answer: HttpAnswer | None) -> dict[str, Any] | None:
    if answer is None or answer.status != 200:
        return None
    try:
        raw = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return raw if isinstance(raw, dict) else None


def _ids(answer: HttpAnswer | None, name: str) -> list[str] | None:
    """The ids in a list; None for what is no list."""
    raw = _json(answer)
    listed = raw.get("messages") if raw is not None else None
    if not isinstance(listed, list):
        return None
    ids = [item.get(name) for item in listed if isinstance(item, Mapping)]
    return [
        found
        for found in ids
        if isinstance(found, str) and 0 < len(found) <= MESSAGE_ID_CHARACTERS_MAX
    ]
