"""Holds a finished run against the sandbox's ledger, message by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outreach.v1 import message_pb2
from outreach.v1.message_pb2 import MessageStatus

# Twilio's code for a recipient that had opted out (product rule: OPTED_OUT, no failure).
_OPTED_OUT_CODE = 21610
# SendGrid's word for the same.
_UNSUBSCRIBED = "Unsubscribed Address"
_DIFFERENCES_SHOWN_MAX = 20


@dataclass(frozen=True)
class Line:
    """One status: what the campaign says, and what the ledger accounts for."""

    status: str
    ours: int
    ledger: int
    # Where the ledger's number comes from, for people.
    source: str

    @property
    def equal(self) -> bool:
        """Whether both agree."""
        return self.ours == self.ledger


@dataclass(frozen=True)
class Accounts:
    """The result: lines that add up to the total, and every difference found.

    Attributes:
        lines: by status, in a message's order of life.
        total: messages of the campaign.
        sent_more_than_once: attempts, or recipients, that the ledger accepted twice.
        differences: sentences, at most `_DIFFERENCES_SHOWN_MAX`; no recipient in them.
    """

    lines: tuple[Line, ...]
    total: int
    sent_more_than_once: int
    differences: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether everything is accounted for."""
        adds_up = sum(line.ours for line in self.lines) == self.total
        return adds_up and not (
            self.sent_more_than_once
            or self.differences
            or any(not line.equal for line in self.lines)
        )


def hold_accounts(
    messages: Iterable[message_pb2.Message],
    ledger_rows: Iterable[Mapping[str, Any]],
    ledger_totals: Mapping[str, Any],
    *,
    suppressed: int,
) -> Accounts:
    """Compare a final campaign with the ledger of exactly this campaign.

    Args:
        messages: all messages of the campaign.
        ledger_rows: all messages that the sandbox accepted.
        ledger_totals: its totals.
        suppressed: recipients that had opted out with us before the run, so that the provider
            never saw them.
    """
    rows = {row["sid"]: row for row in ledger_rows}
    ours: Counter[str] = Counter()
    differences: list[str] = []
    for message in messages:
        status = MessageStatus.Name(message.status).removeprefix("MESSAGE_STATUS_")
        ours[status] += 1
        row = rows.pop(message.provider_message_id, None)
        expected = _expected(row)
        if row is None and status not in {"OPTED_OUT", "FAILED"}:
            differences.append(f"message {message.number} is {status}; the ledger has no such SID")
        elif row is not None and expected != status:
            text = f"message {message.number} is {status}; by the ledger it is {expected}"
            differences.append(text)
    differences += [f"the ledger accepted {sid}, which no message has" for sid in rows]
    again = "attempts_accepted_more_than_once", "recipients_accepted_more_than_once"
    return Accounts(
        lines=_lines(ours, ledger_totals, suppressed),
        total=sum(ours.values()),
        sent_more_than_once=sum(ledger_totals[name] for name in again),
        differences=tuple(differences[:_DIFFERENCES_SHOWN_MAX]),
    )


def hold_email_accounts(
    messages: Iterable[message_pb2.Message],
    ledger_rows: Iterable[Mapping[str, Any]],
    ledger_totals: Mapping[str, Any],
    *,
    refused: frozenset[str],
) -> Accounts:
    """Compare a final email campaign with the ledger of exactly this campaign.

    Args:
        messages: all messages of the campaign.
        ledger_rows: all emails that the sandbox accepted.
        ledger_totals: its totals.
        refused: addresses, in lower case, that the sandbox refuses by name, so that none of them
            may be in its ledger.
    """
    rows = {row["email"].lower(): row for row in ledger_rows}
    ours: Counter[str] = Counter()
    ledger: Counter[str] = Counter(_expected_email(row) for row in rows.values())
    differences: list[str] = []
    for message in messages:
        status = MessageStatus.Name(message.status).removeprefix("MESSAGE_STATUS_")
        ours[status] += 1
        recipient = message.recipient.lower()
        row = rows.pop(recipient, None)
        expected = "FAILED" if row is None and recipient in refused else _expected_email(row)
        if expected != status:
            told = expected or "not in it"
            differences.append(f"message {message.number} is {status}; by the ledger it is {told}")
    differences += [
        f"the ledger has {row['sg_message_id']}, of no message" for row in rows.values()
    ]
    again = "attempts_accepted_more_than_once", "recipients_accepted_more_than_once"
    failed_later = ledger["FAILED"]
    sources = {
        "DELIVERED": (ledger["DELIVERED"], "delivered"),
        "FAILED": (
            failed_later + len(refused),
            f"{failed_later} bounced or dropped, {len(refused)} refused at once",
        ),
        "OPTED_OUT": (ledger["OPTED_OUT"], f"dropped: {_UNSUBSCRIBED}"),
    }
    lines = [Line(status, ours[status], *known) for status, known in sources.items()]
    lines += [Line(s, n, 0, "") for s, n in sorted(ours.items()) if s not in sources]
    return Accounts(
        lines=tuple(lines),
        total=sum(ours.values()),
        sent_more_than_once=sum(ledger_totals[name] for name in again),
        differences=tuple(differences[:_DIFFERENCES_SHOWN_MAX]),
    )


def _expected_email(row: Mapping[str, Any] | None) -> str:
    """The status of a message whose email ended like this at the provider."""
    if row is None:
        return ""
    if row["final_event"] == "delivered":
        return "DELIVERED"
    return "OPTED_OUT" if row["drop_reason"] == _UNSUBSCRIBED else "FAILED"


def _expected(row: Mapping[str, Any] | None) -> str:
    """The status of a message that ended like this at the provider."""
    if row is None:
        return ""
    by_final_status = {"delivered": "DELIVERED", "sent": "ASSUMED_DELIVERED"}
    return by_final_status.get(row["final_status"], "FAILED")


def _lines(ours: Counter[str], totals: Mapping[str, Any], suppressed: int) -> tuple[Line, ...]:
    by_status: Mapping[str, int] = totals["by_final_status"]
    rejected: Mapping[str, int] = totals["rejected_by_code"]
    refused_opt_outs = rejected.get(str(_OPTED_OUT_CODE), 0)
    refused = sum(rejected.values()) - refused_opt_outs
    failed_later = by_status.get("failed", 0) + by_status.get("undelivered", 0)
    expected = {
        "DELIVERED": (by_status.get("delivered", 0), "delivered receipts"),
        "ASSUMED_DELIVERED": (by_status.get("sent", 0), "accepted, no receipt"),
        "FAILED": (failed_later + refused, f"{failed_later} later, {refused} refused at once"),
        "OPTED_OUT": (
            suppressed + refused_opt_outs,
            f"{suppressed} STOP replies, {refused_opt_outs} refused ({_OPTED_OUT_CODE})",
        ),
    }
    lines = [Line(status, ours[status], *known) for status, known in expected.items()]
    # Statuses in which no message may be at the end.
    lines += [Line(s, n, 0, "") for s, n in sorted(ours.items()) if s not in expected]
    return tuple(lines)
