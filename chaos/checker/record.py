"""A history by campaign: its change log as runs and as the steps of each message, and what lies beside it.

The change log has every commit since the campaign was made (a run's recorder reads it before it is
pruned), so a message's whole life can be told from it: every claim, every attempt that was handed back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from chaos.history import (
    Acceptance,
    Acted,
    ActionKind,
    History,
    MessageChange,
    StoredAttempt,
    StoredCampaign,
    StoredChange,
    StoredMessage,
)
from outreach.vocabulary import CampaignStatus, MessageStatus
from services.campaign.domain.lifecycle import Counts

#: Statuses that a message has only when the provider has taken it.
TAKEN = frozenset(
    {
        MessageStatus.SENT,
        MessageStatus.RETRYING,
        MessageStatus.DELIVERED,
        MessageStatus.ASSUMED_DELIVERED,
    }
)

#: A message's number and one of its attempts.
Attempt = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one message, and what the message was before it. `run`: of which number, 0: before the first."""

    before: MessageChange
    after: MessageChange
    commit_time: float
    run: int

    @property
    def is_claim(self) -> bool:
        """A sender was permitted to send it."""
        return self.after.status is MessageStatus.SENDING

    @property
    def is_hand_back(self) -> bool:
        """Its sender said that the attempt was certainly not sent."""
        return (
            self.after.status is MessageStatus.QUEUED
            and self.before.status is MessageStatus.SENDING
        )


@dataclass(slots=True)
class Run:
    """One run in the log: all of its commits, and the one that stopped it."""

    number: int
    changes: list[StoredChange]
    stop: StoredChange | None = None


@dataclass
class CampaignRecord:
    """All that a history holds of one campaign that is there at the end."""

    campaign: StoredCampaign
    changes: list[StoredChange] = field(default_factory=list)
    messages: dict[int, StoredMessage] = field(default_factory=dict)
    earlier: dict[Attempt, StoredAttempt] = field(default_factory=dict)
    acceptances: list[Acceptance] = field(default_factory=list)
    #: Stops that were asked for, answered or not.
    stops: list[Acted] = field(default_factory=list)

    @cached_property
    def runs(self) -> list[Run]:
        """In order. A run begins with a commit without messages.

        So does a stop end it, and so does a commit that only brings ids: the stop is the one at the
        campaign's stop time, or, in a run that a retry has followed, the last while a stop was asked for.
        """
        runs: list[Run] = []
        before = CampaignStatus.CREATED
        for change in self.changes:
            if change.status is CampaignStatus.IN_PROGRESS and not change.messages:
                if before is not change.status:
                    runs.append(Run(len(runs) + 1, []))
                elif runs and self._may_stop(change):
                    runs[-1].stop = change
            if runs:
                runs[-1].changes.append(change)
            before = change.status
        if runs and self.campaign.stop_time is not None:
            runs[-1].stop = next(
                (
                    change
                    for change in runs[-1].changes
                    if not change.messages and change.commit_time == self.campaign.stop_time
                ),
                None,
            )
        return runs

    def _may_stop(self, change: StoredChange) -> bool:
        """A stop's transaction begins once it is asked for, and is over when it is answered."""
        return any(
            stop.ok is not False
            and stop.begun_time <= change.commit_time
            and (stop.answered_time is None or change.commit_time <= stop.answered_time)
            for stop in self.stops
        )

    @cached_property
    def steps(self) -> list[Step]:
        """Every change of every message, in the order of the log."""
        run_by_revision = {c.revision: run.number for run in self.runs for c in run.changes}
        latest: dict[int, MessageChange] = {}
        steps = []
        for change in self.changes:
            run = run_by_revision.get(change.revision, 0)
            for message in change.messages:
                before = latest.get(message.number) or _unchanged(message.number, run)
                steps.append(Step(before, message, change.commit_time, run))
                latest[message.number] = message
        return steps

    @cached_property
    def claims(self) -> dict[Attempt, Step]:
        """By attempt: the step that permitted it."""
        return {
            (step.after.number, step.after.attempt): step for step in self.steps if step.is_claim
        }

    @cached_property
    def handed_back(self) -> frozenset[Attempt]:
        """Attempts of which the database was told that they were not sent."""
        return frozenset(
            (step.after.number, step.after.attempt) for step in self.steps if step.is_hand_back
        )

    @cached_property
    def taken(self) -> frozenset[Attempt]:
        """Attempts of which the database was told, at some time, that the provider has taken them."""
        return frozenset(
            (step.after.number, step.after.attempt)
            for step in self.steps
            if step.after.status in TAKEN
        )

    @cached_property
    def accepted(self) -> Mapping[Attempt, list[Acceptance]]:
        """What the ledger has, by attempt."""
        accepted: dict[Attempt, list[Acceptance]] = {}
        for acceptance in self.acceptances:
            accepted.setdefault((acceptance.number, acceptance.attempt), []).append(acceptance)
        return accepted

    def end_of(self, number: int, attempt: int) -> StoredMessage | StoredAttempt | None:
        """The row that says what became of an attempt; None: there is none, as of one that was handed back."""
        if (number, attempt) in self.earlier:
            return self.earlier[number, attempt]
        message = self.messages.get(number)
        return message if message is not None and message.attempt == attempt else None


def records_of(history: History) -> dict[str, CampaignRecord]:
    """By campaign id, of the campaigns that are in the database at the end; test sends and deleted ones are not."""
    records = {c.campaign_id: CampaignRecord(c) for c in history.campaigns}
    for message in history.messages:
        if message.campaign_id in records:
            records[message.campaign_id].messages[message.number] = message
    for attempt in history.attempts:
        if attempt.campaign_id in records:
            records[attempt.campaign_id].earlier[attempt.number, attempt.attempt] = attempt
    for acceptance in history.acceptances:
        if acceptance.token_valid and acceptance.campaign_id in records:
            records[acceptance.campaign_id].acceptances.append(acceptance)
    for action in history.actions:
        if action.kind is ActionKind.STOP and action.campaign_id in records:
            records[action.campaign_id].stops.append(action)
    for change in sorted(history.changes, key=lambda change: change.revision):
        if change.campaign_id in records:
            records[change.campaign_id].changes.append(change)
    return records


def counts_of(counts: Mapping[MessageStatus, int]) -> Counts:
    """As the lifecycle has them."""
    return Counts(*(counts.get(status, 0) for status in MessageStatus))


def _unchanged(number: int, run: int) -> MessageChange:
    """A message before its first change: a run queues all that wait, and does not list them."""
    status = MessageStatus.QUEUED if run else MessageStatus.WAITING
    return MessageChange(number=number, status=status, failure_reason=None, attempt=0, revision=0)
