"""Places in the code at which a death is worst, by name: `reached("claim-committed")`.

They do nothing, at the cost of one comparison, unless a hook is set. Only fault tests set one: it ends the
process at the place, as a kill at this very moment would.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

Service = Literal["campaign", "sender"]


class CrashPoint(NamedTuple):
    """Which service comes by (`sender`: both of them), and what has happened by then."""

    service: Service
    meaning: str


CRASH_POINTS: Final[Mapping[str, CrashPoint]] = {
    "claim-before-commit": CrashPoint(
        "campaign", "A claim's messages are SENDING, in a transaction that is not committed."
    ),
    "claim-committed": CrashPoint(
        "campaign", "A claim is committed; its sender has not heard of it."
    ),
    "claim-received": CrashPoint(
        "sender", "A claim's answer has arrived; nothing is done with it."
    ),
    "request-before-begin": CrashPoint(
        "sender", "A request to the provider is next; nothing of it is written down."
    ),
    "request-begun": CrashPoint(
        "sender", "The journal says that a request begins; it can't be whole at the provider yet."
    ),
    "request-answered": CrashPoint(
        "sender", "The provider has answered, or has not in time; the outcome is in memory alone."
    ),
    "report-before-send": CrashPoint(
        "sender", "A batch of reports is in the journal and was not sent, or not on this stream."
    ),
    "reports-before-commit": CrashPoint(
        "campaign", "A campaign's reports are applied, in a transaction that is not committed."
    ),
    "reports-committed": CrashPoint(
        "campaign", "A campaign's reports are committed; those of others in the batch may not be."
    ),
    "reports-before-ack": CrashPoint(
        "campaign", "All reports of some batches are committed; their sender has not heard of it."
    ),
    "ack-before-taken": CrashPoint(
        "sender", "An acknowledgement of reports has arrived; the journal does not know it."
    ),
    "instance-fenced": CrashPoint(
        "campaign", "A sender's instance is ended; what it had claimed is not handed back yet."
    ),
    "adoption-reports-told": CrashPoint(
        "sender", "A dead sender's reports are committed; its instances are not ended."
    ),
    "adoption-before-remove": CrashPoint(
        "sender", "All of a dead sender's journal is told; the file is still there."
    ),
    "webhook-stored": CrashPoint(
        "sender", "A webhook is in the inbox; its provider has no answer."
    ),
    "inbox-before-ack": CrashPoint(
        "sender", "A stored webhook's report is committed; the inbox still holds it."
    ),
    "dispatch-before-commit": CrashPoint(
        "campaign", "Messages are noted as dispatched, in a transaction that is not committed."
    ),
    "dispatch-committed": CrashPoint(
        "campaign", "Messages are noted as dispatched; no job for them is published."
    ),
    "job-published": CrashPoint(
        "campaign", "One of a dispatch's jobs is published, others may not be."
    ),
    "import-copied-batch": CrashPoint(
        "campaign", "A part of a file's contacts is copied, in the import's only transaction."
    ),
    "import-before-commit": CrashPoint(
        "campaign", "All contacts of a file are copied and the campaign is READY, not committed."
    ),
    "import-committed": CrashPoint("campaign", "An import is committed; its caller has no answer."),
    "stop-before-commit": CrashPoint("campaign", "A run is stopped, not committed."),
    "stop-committed": CrashPoint("campaign", "A stop is committed; no sender was told."),
    "cancel-between-batches": CrashPoint(
        "campaign", "Some of a stopped run's queued messages are cancelled, and others are not."
    ),
    "retry-before-commit": CrashPoint("campaign", "A retry's messages are queued, not committed."),
    "retry-committed": CrashPoint("campaign", "A retry is committed; its caller has no answer."),
    "sweep-committed": CrashPoint(
        "campaign", "A timer has settled messages, or cancelled them; nobody was told."
    ),
    "completion-before-commit": CrashPoint(
        "campaign", "The change that makes the last message final is done, not committed."
    ),
    "deletion-between-batches": CrashPoint(
        "campaign", "Some of a deleted campaign's rows are gone, and others are not."
    ),
}

_hook: Callable[[str], None] | None = None


def reached(point: str) -> None:
    """Say that the code is at this point, one of CRASH_POINTS."""
    if _hook is not None:
        _hook(point)


def set_hook(hook: Callable[[str], None] | None) -> None:
    """What to call at each point from now on; None: nothing. It may end the process, and must not raise."""
    global _hook
    _hook = hook
