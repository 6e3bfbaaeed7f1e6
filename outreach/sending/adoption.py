"""What becomes of a dead sender's journal: the living tell the campaign service what it knew.

Its unacknowledged reports are sent again (harmless when repeated). Then its instances are reported
as ended, with the attempts whose request had begun and that have no outcome: those are unknown, and
everything else it had claimed was never sent. After a power failure the journal may lack its last
records, so nothing is said about what it does not contain; such claims run out on their own.
"""

import asyncio
import fcntl
import os
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import (
    JOURNAL_SUFFIX,
    UNFINISHED_SUFFIX,
    JournalState,
    boot_id,
    read_journal,
)
from outreach.sending.outcomes import AttemptOutcome
from outreach.sending.reporter import Reporter

#: Writing a journal anew takes milliseconds; what is older than this was left behind.
UNFINISHED_SECONDS_MAX = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeadJournal:
    """A journal whose process is gone; the lock is ours until `close` or `remove`."""

    path: Path
    file: int
    state: JournalState

    def remove(self) -> None:
        """Everything in it has been told."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave it to others."""
        os.close(self.file)


def take_dead_journals(directory: Path) -> list[DeadJournal]:
    """Lock and read the journals of dead processes; those of living ones are locked by them."""
    _remove_unfinished(directory)
    found = []
    for path in sorted(directory.glob(f"*{JOURNAL_SUFFIX}")):
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink == 0:  # removed by its adopter, between our two steps
                os.close(file)
                continue
            state = read_journal(path.read_bytes())
        except BlockingIOError:
            os.close(file)
            continue
        found.append(DeadJournal(path, file, state))
    return found


def _remove_unfinished(directory: Path) -> None:
    """New journals that never got their name: their process died while it wrote them, and the old
    file, which is still there, says the same.
    """
    for path in directory.glob(f".*{UNFINISHED_SUFFIX}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > UNFINISHED_SECONDS_MAX:
                path.unlink()


def ended_instances(state: JournalState) -> list[delivery_pb2.EndedInstance]:
    """The dead process's instances with what each had begun and never learned the outcome of."""
    begun: dict[int, dict[bytes, delivery_pb2.BegunAttempts]] = defaultdict(dict)
    for (campaign_id, number, attempt), index in state.begun.items():
        attempts = begun[index].setdefault(
            campaign_id, delivery_pb2.BegunAttempts(campaign_id=str(UUID(bytes=campaign_id)))
        )
        attempts.numbers.append(number)
        attempts.attempts.append(attempt)
    return [
        delivery_pb2.EndedInstance(instance_id=str(instance_id), begun=begun[index].values())
        for index, instance_id in state.instances.items()
    ]


class Adopter:
    """Adopts the journals of dead siblings in one directory, at the start and every few seconds."""

    def __init__(
        self, directory: Path, reporter: Reporter, *, interval_seconds: float = 3.0
    ) -> None:
        self._directory = directory
        self._reporter = reporter
        self._interval_seconds = interval_seconds
        self._boot_id = boot_id()

    async def run(self) -> None:
        """Look for dead journals for ever."""
        while True:
            journals = take_dead_journals(self._directory)
            try:
                while journals:
                    await self._adopt(journals[-1])
                    journals.pop().remove()
            finally:
                for journal in journals:
                    journal.close()
            await asyncio.sleep(self._interval_seconds)

    async def _adopt(self, journal: DeadJournal) -> None:
        state = journal.state
        through = 0
        for body in state.batches.values():
            batch = delivery_pb2.ReportBatch.FromString(body)
            for campaign in batch.campaigns:
                outcomes = [AttemptOutcome.from_report(report) for report in campaign.reports]
                through = self._reporter.submit(campaign.campaign_id, outcomes, journaled=False)
            for failure in batch.campaign_failures:
                through = self._reporter.submit_campaign_failure(failure)
        await self._reporter.acked_through(through)
        reached("adoption-reports-told")
        same_boot = state.boot_id == self._boot_id
        ended = ended_instances(state) if same_boot else []
        for instance in ended:
            through = self._reporter.submit_ended_instance(instance)
        await self._reporter.acked_through(through)
        reached("adoption-before-remove")
        _log.info(
            "journal_adopted",
            instances=[instance.instance_id for instance in ended],
            begun=len(state.begun),
            batches=len(state.batches),
            same_boot=same_boot,
        )
