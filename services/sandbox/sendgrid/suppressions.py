"""The suppression lists: who gets no email, and why."""

import time
from typing import Any, NamedTuple

from services.sandbox.journal import Journal
from services.sandbox.sendgrid.knobs import DropReason

LISTS = ("bounces", "blocks", "invalid_emails", "spam_reports", "unsubscribes")
"""The lists of `/v3/suppression/`; `unsubscribes` is the global one of `/v3/asm/`."""

# A block does not keep the next email from being tried.
_REASON_BY_LIST: dict[str, DropReason] = {
    "bounces": "Bounced Address",
    "invalid_emails": "Invalid",
    "spam_reports": "Spam Reporting Address",
    "unsubscribes": "Unsubscribed Address",
}


class Suppressed(NamedTuple):
    """An entry: since when (seconds since the epoch), and the bounce's text and SMTP status."""

    created: int
    reason: str
    status: str


class Suppressions:
    """The lists, by address in lower case; kept in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.empty()

    def empty(self) -> None:
        self._lists: dict[str, dict[str, Suppressed]] = {name: {} for name in LISTS}

    def add(self, name: str, email: str, reason: str = "", status: str = "") -> None:
        """Put an address on a list; one that is there stays as it is."""
        key = email.lower()
        if key not in self._lists[name]:
            entry = Suppressed(int(time.time()), reason, status)
            self._journal.append(["suppressed", name, key, *entry])
            self._lists[name][key] = entry

    def remove(self, name: str, email: str) -> bool:
        """Take an address off a list; says whether it was on it."""
        key = email.lower()
        if key not in self._lists[name]:
            return False
        self._journal.append(["unsuppressed", name, key])
        del self._lists[name][key]
        return True

    def apply(self, record: list[Any]) -> bool:
        """Take in a record of the journal; says whether it was one of a list."""
        match record:
            case ["suppressed", name, key, created, reason, status] if name in self._lists:
                self._lists[name][key] = Suppressed(created, reason, status)
            case ["unsuppressed", name, key] if name in self._lists:
                self._lists[name].pop(key, None)
            case _:
                return False
        return True

    def of(self, name: str, email: str) -> Suppressed | None:
        return self._lists[name].get(email.lower())

    def entries(self, name: str) -> dict[str, Suppressed]:
        """All of a list, oldest first."""
        return self._lists[name]

    def drop_reason(self, email: str, *, past_bounces: bool = False) -> DropReason | None:
        """Why an email to this address would be dropped. `past_bounces`: it is sent to those that bounced, too."""
        key = email.lower()
        for name, reason in _REASON_BY_LIST.items():
            if key in self._lists[name] and not (past_bounces and name == "bounces"):
                return reason
        return None

    def counts(self) -> dict[str, int]:
        return {name: len(entries) for name, entries in self._lists.items()}
