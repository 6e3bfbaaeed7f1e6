"""Email Activity (`/v3/messages`) and Email Logs (`/v3/logs`): what became of emails, by query."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from services.sandbox.sendgrid.events import ActivityEvent, happened, refusal
from services.sandbox.sendgrid.fates import Outcome
from services.sandbox.sendgrid.ledger import ATTEMPT_ARGS, EmailLedger
from services.sandbox.sendgrid.rendering import RenderedEmail

LIMIT_DEFAULT = 10
LIMIT_MAX = 1_000
CONDITIONS_MAX = 160

_VALUE = r"""(?:TIMESTAMP\s*)?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_CONDITION = re.compile(
    rf"""\s*(?P<field>\w+)(?:\[\s*(?P<key>{_VALUE})\s*\])?\s*
    (?P<operator>=|!=|>=|<=|>|<|LIKE\b|IN\b)\s*
    (?:(?P<value>{_VALUE})|\(\s*(?P<values>{_VALUE}(?:\s*,\s*{_VALUE})*)\s*\))\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_AND = re.compile(r"AND\b", re.IGNORECASE)

_ARGS = ("unique_args", "custom_args")
_FIELDS = frozenset(
    {"msg_id", "sg_message_id", "to_email", "from_email", "subject", "status", "reason"}
    | {"categories", "last_event_time", "sg_message_id_created_at", *_ARGS}
)


class BadQuery(ValueError):
    """The query is not understood; the text says where."""


class Condition(NamedTuple):
    """One comparison; `key` is that of a custom argument."""

    field: str
    key: str
    operator: str
    values: tuple[str, ...]

    def holds(self, actual: str) -> bool:
        """Whether a value fulfils it."""
        wanted = self.values[0]
        match self.operator:
            case "=" | "IN":
                return actual in self.values
            case "!=":
                return actual not in self.values
            case "LIKE":
                pattern = ".*".join(re.escape(part) for part in wanted.split("%"))
                return re.fullmatch(pattern, actual, re.DOTALL) is not None
            case ">=":
                return actual >= wanted
            case "<=":
                return actual <= wanted
            case ">":
                return actual > wanted
        return actual < wanted


def parsed_query(query: str) -> list[Condition]:
    """The conditions of a query, all of which have to hold.

    Raises:
        BadQuery: it is none, or names a field that does not exist.
    """
    conditions: list[Condition] = []
    rest = query.strip()
    while rest:
        bare = rest
        wrapped = rest.startswith(("(unique_args", "(custom_args"))
        if wrapped:
            bare = rest[1:]
        found = _CONDITION.match(bare)
        if found is None:
            raise BadQuery(f"invalid query near: {rest[:20]}")
        if found["field"] not in _FIELDS:
            raise BadQuery(f"unknown field: {found['field'][:40]}")
        several = re.findall(_VALUE, found["values"] or "", re.IGNORECASE)
        values = tuple(map(_unquoted, several or [found["value"]]))
        key = _unquoted(found["key"]) if found["key"] else ""
        conditions.append(Condition(found["field"], key, found["operator"].upper(), values))
        rest = bare[found.end() :].lstrip()
        if wrapped:
            rest = rest.removeprefix(")").lstrip()
        if not rest:
            break
        joint = _AND.match(rest)
        if joint is None or len(conditions) >= CONDITIONS_MAX:
            raise BadQuery("conditions can only be joined by AND, 160 at most")
        rest = rest[joint.end() :].lstrip()
        if not rest:
            raise BadQuery("invalid query: it ends with AND")
    return conditions


def _unquoted(text: str) -> str:
    inner = text[text.index(text[-1]) + 1 : -1]
    return re.sub(r"\\(.)", r"\1", inner)


class LookUps:
    """Answers queries over the ledger.

    `lag_seconds`: younger emails are not found.
    """

    def __init__(self, ledger: EmailLedger, lag_seconds: Callable[[], float]) -> None:
        self._ledger = ledger
        self._lag_seconds = lag_seconds

    def messages(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Email Activity's list.

        Raises:
            BadQuery: see `parsed_query`.
        """
        return [self._summary(number) for number in self._found(query, limit)]

    def logs(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Email Logs' list.

        Raises:
            BadQuery: see `parsed_query`.
        """
        return [self._log(number) for number in self._found(query, limit)]

    def message(self, message_id: str) -> dict[str, Any] | None:
        """One email of Email Activity, with its events."""
        number = self._visible(message_id)
        if number is None:
            return None
        email = self._ledger.rendered(number)
        return {
            **self._summary(number),
            "template_id": "",
            "asm_group_id": 0,
            "originating_ip": "",
            "outbound_ip": "167.89.90.16",
            "outbound_ip_type": "dedicated",
            "categories": email.categories,
            "unique_args": email.custom_args,
            "events": [
                {
                    "event_name": _ACTIVITY_NAMES.get(event.type, event.type),
                    "processed": _iso(event.at),
                    **self._explained(number, event),
                }
                for event in happened(self._ledger, number, time.time())
            ],
        }

    def log(self, message_id: str) -> dict[str, Any] | None:
        """One email of Email Logs, with its custom arguments and its events."""
        number = self._visible(message_id)
        if number is None:
            return None
        email = self._ledger.rendered(number)
        return {
            **self._log(number),
            "categories": email.categories,
            "custom_args": email.custom_args,
            "events": [
                {
                    "event": event.type,
                    "timestamp": int(event.at),
                    **self._explained(number, event),
                }
                for event in happened(self._ledger, number, time.time())
            ],
        }

    def _visible(self, message_id: str) -> int | None:
        number = self._ledger.number_of(message_id)
        return number if number is not None and self._is_visible(number) else None

    def _is_visible(self, number: int) -> bool:
        return self._ledger.created(number) <= time.time() - self._lag_seconds()

    def _found(self, query: str, limit: int) -> Iterator[int]:
        conditions = parsed_query(query)
        left = limit
        for number in self._candidates(conditions):
            if left and self._is_visible(number) and self._matches(number, conditions):
                left -= 1
                yield number
            if not left:
                return

    def _candidates(self, conditions: list[Condition]) -> Iterable[int]:
        for condition in conditions:
            wanted = condition.values[0]
            if condition.field == "to_email" and condition.operator == "=":
                return self._ledger.newest_first(wanted)
            if condition.field in ("msg_id", "sg_message_id") and condition.operator in (
                "=",
                "LIKE",
            ):
                return reversed(self._ledger.numbers_of_request(wanted))
            if condition.field in _ARGS and condition.operator == "=":
                number = self._ledger.last_of_attempt(wanted)
                if number is not None:
                    return (number,)
                # Any other argument may be asked for, and has no index: that takes seconds of all
                # requests' time in a large ledger.
                if condition.key == ATTEMPT_ARGS[0]:
                    return ()
        return self._ledger.newest_first()

    def _matches(self, number: int, conditions: list[Condition]) -> bool:
        return all(self._holds(number, condition) for condition in conditions)

    def _holds(self, number: int, condition: Condition) -> bool:
        ledger = self._ledger
        match condition.field:
            case "to_email":
                email = ledger.email(number).lower()
                return condition._replace(
                    values=tuple(value.lower() for value in condition.values)
                ).holds(email)
            case "msg_id" | "sg_message_id":
                return condition.holds(ledger.sg_message_id(number))
            case "status":
                return condition.holds(self.status(number))
            case "reason":
                return condition.holds(self._reason(number))
            case "sg_message_id_created_at":
                return condition.holds(_iso(ledger.created(number)))
            case "last_event_time":
                return condition.holds(self._last_event_time(number))
        return self._holds_of(ledger.rendered(number), condition)

    def _holds_of(self, email: RenderedEmail, condition: Condition) -> bool:
        match condition.field:
            case "subject":
                return condition.holds(email.subject)
            case "from_email":
                return condition.holds(email.sender)
            case "categories":
                return any(condition.holds(one) for one in email.categories)
        return condition.holds(email.custom_args.get(condition.key, ""))

    # Rendering

    def _summary(self, number: int) -> dict[str, Any]:
        email = self._ledger.rendered(number)
        events = happened(self._ledger, number, time.time())
        status = self.status(number)
        return {
            "from_email": email.sender,
            "msg_id": self._ledger.sg_message_id(number),
            "subject": email.subject,
            "to_email": self._ledger.email(number),
            "status": status if status in ("processed", "delivered") else _ACTIVITY_STATUS[status],
            "opens_count": sum(event.type == "open" for event in events),
            "clicks_count": sum(event.type == "click" for event in events),
            "last_event_time": self._last_event_time(number),
        }

    def _log(self, number: int) -> dict[str, Any]:
        email = self._ledger.rendered(number)
        return {
            "from_email": email.sender,
            "sg_message_id": self._ledger.sg_message_id(number),
            "subject": email.subject,
            "to_email": self._ledger.email(number),
            "status": self.status(number),
            "reason": self._reason(number),
            "sg_message_id_created_at": _iso(self._ledger.created(number)),
        }

    def status(self, number: int) -> str:
        """Processed, deferred, delivered, dropped, bounced or blocked, as it stands."""
        kinds = [event.type for event in happened(self._ledger, number, time.time())]
        decisive = [kind for kind in kinds if kind in _DECISIVE]
        last = decisive[-1] if decisive else "processed"
        if last != "bounce":
            return last
        blocked = self._ledger.outcome(number) in (Outcome.BLOCKED, Outcome.DEFERRED_FOR_EVER)
        return "blocked" if blocked else "bounced"

    def _reason(self, number: int) -> str:
        status = self.status(number)
        if status in ("bounced", "blocked"):
            return refusal(self._ledger, number).reason
        return self._ledger.detail(number) if status == "dropped" else ""

    def _last_event_time(self, number: int) -> str:
        events = happened(self._ledger, number, time.time())
        return _iso(max((event.at for event in events), default=self._ledger.created(number)))

    def _explained(self, number: int, event: ActivityEvent) -> dict[str, Any]:
        if event.type == "bounce":
            said = refusal(self._ledger, number)
            blocked = self._ledger.outcome(number) in (Outcome.BLOCKED, Outcome.DEFERRED_FOR_EVER)
            return {
                "reason": said.reason,
                "bounce_type": "blocked" if blocked else "bounce",
                "bounce_classification": self._ledger.detail(number),
                **({"status": said.status} if said.status else {}),
            }
        return {"reason": self._ledger.detail(number)} if event.type == "dropped" else {}


_DECISIVE = frozenset({"processed", "deferred", "delivered", "bounce", "dropped"})
_ACTIVITY_STATUS = {
    "deferred": "processed",
    "bounced": "not_delivered",
    "blocked": "not_delivered",
    "dropped": "not_delivered",
}
_ACTIVITY_NAMES = {"bounce": "bounced", "spamreport": "spam_report"}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
