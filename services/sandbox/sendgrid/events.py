"""The events of an email, as the event webhook tells them."""

from typing import NamedTuple

import orjson

from services.sandbox.sendgrid import ids
from services.sandbox.sendgrid.fates import DEFERRED, LATE_BOUNCE, Outcome, event_of, steps_of
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.schedule import offset_seconds

OUTBOUND_IP = "167.89.90.16"
_RECIPIENT_IP = "203.0.113.40"
_USERAGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/126.0.0.0 Safari/537.36"
)
_LINK = "https://www.outreach.example/offer"


class Refusal(NamedTuple):
    """What the receiver's server said; SendGrid itself gave up where there is no status."""

    reason: str
    status: str | None


REFUSALS = {
    "Invalid Address": Refusal(
        "550 5.1.1 The email account that you tried to reach does not exist.", "5.1.1"
    ),
    "Mailbox Unavailable": Refusal(
        "552 5.2.2 The email account that you tried to reach is over quota.", "5.2.2"
    ),
    "Content": Refusal(
        "554 5.7.1 The message was rejected because of what it says or links to.", "5.7.1"
    ),
    "Reputation": Refusal(
        "550 5.7.1 Our system has detected that this message is likely unsolicited mail.", "5.7.1"
    ),
    "Frequency or Volume Too High": Refusal(
        "421 4.7.28 Too many messages from this address at a time.", "4.7.28"
    ),
    "Technical": Refusal("unable to get mx info: failed to get IPs from PTR record", None),
    "Unclassified": Refusal("550 Requested action not taken", "5.0.0"),
}

EXPIRED = Refusal("unable to deliver the message within 72 hours; last answer: 451 4.3.0", "4.3.0")
DEFERRAL = "451 4.3.0 Temporary failure, please try again later"
DELIVERY = "250 2.0.0 OK"


class ActivityEvent(NamedTuple):
    """An event that happened, whether it is posted or not; `at`: seconds since the epoch."""

    step: int
    type: str
    at: float


def happened(ledger: EmailLedger, number: int, now: float) -> list[ActivityEvent]:
    """The events of an email up to now, in order."""
    outcome, complaint = ledger.outcome(number), ledger.complaint(number)
    events = [
        ActivityEvent(step, event_of(outcome, complaint, step), event_time(ledger, number, step))
        for step in steps_of(ledger.steps(number))
    ]
    return [event for event in events if event.at <= now]


def event_time(ledger: EmailLedger, number: int, step: int) -> float:
    """When the event of a step happens, in seconds since the epoch."""
    offset = offset_seconds(
        step, ledger.outcome(number), ledger.timing(number), ledger.delay(number)
    )
    return ledger.created(number) + offset


def refusal(ledger: EmailLedger, number: int) -> Refusal:
    """What a bounced or blocked email was refused with."""
    if ledger.outcome(number) is Outcome.DEFERRED_FOR_EVER:
        return EXPIRED
    return REFUSALS[ledger.detail(number)]


def event_json(ledger: EmailLedger, number: int, step: int) -> bytes:
    """The event of a step as a JSON object."""
    kind = event_of(ledger.outcome(number), ledger.complaint(number), step)
    lacking = ledger.lacks_fields(number, step)
    message = ledger.message_id(number)
    fields, args = ledger.event_fields(number)
    identity = f'"sg_event_id":"{ids.event_id(kind, step, message, ledger.index(number))}",'
    sent_as = f'"sg_message_id":"{ledger.sg_message_id(number)}",'
    if lacking and kind == "dropped":
        identity = ""
    if lacking and step == LATE_BOUNCE:
        sent_as = ""
    # Addresses that are accepted have nothing that JSON would escape.
    head = (
        f'{{"email":"{ledger.email(number)}","timestamp":{int(event_time(ledger, number, step))},'
        f'{identity}{sent_as}{_smtp_id(kind, message, lacking)}"event":"{kind}"'
    )
    own = _own_fields(ledger, number, step, kind, lacking)
    if kind == "deferred":
        args = _without_attempt(args)
    return b"".join((head.encode(), own, fields, args, b"}"))


def _smtp_id(kind: str, message: str, lacking: bool) -> str:
    # What a recipient does is not told with the SMTP id.
    if lacking or kind not in ("processed", "deferred", "delivered", "bounce", "dropped"):
        return ""
    return f'"smtp-id":"<{message}@geopod-ismtpd-1>",'


def _own_fields(ledger: EmailLedger, number: int, step: int, kind: str, lacking: bool) -> bytes:
    match kind:
        case "processed":
            return b""
        case "delivered":
            return _DELIVERED_LACKING if lacking else _DELIVERED
        case "deferred":
            attempt = str(step - DEFERRED + 1)
            own = {} if lacking else {"response": DEFERRAL}
            return _members({**own, "attempt": attempt, "tls": 0, "ip": OUTBOUND_IP})
        case "bounce":
            return _members(_bounce_fields(ledger, number, lacking))
        case "dropped":
            status = {} if lacking else {"status": "5.0.0"}
            return _members({"reason": ledger.detail(number), **status})
        case "open":
            return _OPEN_LACKING if lacking else _OPEN
        case "click":
            return _CLICK
        case "group_unsubscribe":
            return _GROUP_UNSUBSCRIBE
    return b""


def _bounce_fields(ledger: EmailLedger, number: int, lacking: bool) -> dict[str, object]:
    outcome = ledger.outcome(number)
    blocked = outcome in (Outcome.BLOCKED, Outcome.DEFERRED_FOR_EVER)
    said = refusal(ledger, number)
    fields: dict[str, object] = {
        "bounce_classification": ledger.detail(number),
        "reason": said.reason,
        "type": "blocked" if blocked else "bounce",
        "tls": 0 if said.status is None else 1,
    }
    if lacking:
        return fields
    if said.status is not None:
        fields["status"] = said.status
    return {**fields, "ip": OUTBOUND_IP}


def _members(fields: dict[str, object]) -> bytes:
    return b"," + orjson.dumps(fields)[1:-1] if fields else b""


def _without_attempt(args: bytes) -> bytes:
    # SendGrid's own field wins over a custom argument of the same name.
    if b'"attempt":' not in args:
        return args
    given = orjson.loads(b"{" + args[1:] + b"}")
    given.pop("attempt", None)
    return _members(given)


_DELIVERED = _members({"response": DELIVERY, "tls": 1, "ip": OUTBOUND_IP})
_DELIVERED_LACKING = _members({"tls": 1})
_OPEN = _members(
    {
        "useragent": _USERAGENT,
        "ip": _RECIPIENT_IP,
        "sg_machine_open": False,
        "sg_content_type": "html",
    }
)
_OPEN_LACKING = _members({"ip": _RECIPIENT_IP})
_CLICK = _members(
    {
        "useragent": _USERAGENT,
        "ip": _RECIPIENT_IP,
        "url": _LINK,
        "url_offset": {"index": 0, "type": "html"},
    }
)
_GROUP_UNSUBSCRIBE = _members({"useragent": _USERAGENT, "ip": _RECIPIENT_IP, "url": _LINK})
