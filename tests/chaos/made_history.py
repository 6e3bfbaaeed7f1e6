"""Histories made by hand, with no process behind them: campaigns that do as they are told, and what everybody saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chaos.history import (
    Acceptance,
    Acted,
    ActionKind,
    CampaignSeen,
    Exported,
    History,
    MessageChange,
    StoredAttempt,
    StoredCampaign,
    StoredChange,
    StoredMessage,
    Told,
    Watched,
)
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from services.campaign.domain.lifecycle import Counts, campaign_status

S = MessageStatus


@dataclass
class Clock:
    """Every commit is a while after the one before."""

    time: float = 1_000.0

    def tick(self, seconds: float = 0.25) -> float:
        self.time += seconds
        return self.time


@dataclass
class MadeCampaign:
    """A campaign that commits whatever it is told, legal or not, and keeps its counts right."""

    campaign_id: str
    channel: Channel
    total: int
    clock: Clock
    acceptances: list[Acceptance] = field(default_factory=list)
    attempts: list[StoredAttempt] = field(default_factory=list)
    changes: list[StoredChange] = field(default_factory=list)
    actions: list[Acted] = field(default_factory=list)
    run_number: int = 0
    stop_time: float | None = None
    end_time: float | None = None

    def __post_init__(self) -> None:
        self.latest = {
            number: MessageChange(
                number=number, status=S.WAITING, failure_reason=None, attempt=0, revision=0
            )
            for number in range(1, self.total + 1)
        }
        self.runs = dict.fromkeys(self.latest, 0)
        self.ids = dict.fromkeys(self.latest, "")
        self._commit([])

    def recipient(self, number: int) -> str:
        if self.channel is Channel.EMAIL:
            return f"{self.campaign_id}.{number}@example.org"
        return f"+1512555{self.campaign_id}{number:04}"

    @property
    def counts(self) -> dict[MessageStatus, int]:
        return dict(Counter(message.status for message in self.latest.values()))

    def run(self) -> None:
        """All that wait are queued, in one commit that names none of them."""
        for number, message in self.latest.items():
            self.latest[number] = replace(message, status=S.QUEUED)
        self._begin(ActionKind.RUN)

    def retry(self, *numbers: int, forced: bool = False) -> None:
        """What came of failed attempts is kept; then the messages are queued, in the same transaction."""
        self._begin(ActionKind.RETRY, numbers=numbers, forced=forced)
        moves = []
        for number in numbers:
            message = self.latest[number]
            if message.status is S.FAILED:
                self.attempts.append(self._kept(message))
            self.ids[number] = ""
            moves.append(self._moved(number, S.QUEUED))
        self._commit(moves)

    def tell_ids(self) -> None:
        """A commit of messages of which only an id came to be known: it lists none."""
        self.clock.tick()
        self._commit([])

    def stop(self) -> None:
        begun = self.clock.time
        self.stop_time = self.clock.tick()
        self._commit([])
        self._acted(ActionKind.STOP, begun)

    def claim(self, *numbers: int, opted_out: Iterable[int] = ()) -> None:
        """One commit: each is SENDING with the next attempt, or OPTED_OUT."""
        self.clock.tick()
        suppressed = {*opted_out}
        moves = []
        for number in (*numbers, *suppressed):
            self.runs[number] = self.run_number
            if number in suppressed:
                moves.append(self._moved(number, S.OPTED_OUT))
            else:
                self.ids[number] = ""
                attempt = self.latest[number].attempt + 1
                moves.append(self._moved(number, S.SENDING, attempt=attempt))
        self._commit(moves)

    def accept(self, *numbers: int, after_seconds: float = 0.05) -> None:
        """The provider takes what was claimed last; the database does not hear of it yet."""
        for number in numbers:
            attempt = self.latest[number].attempt
            self.acceptances.append(
                Acceptance(
                    channel=self.channel,
                    recipient=self.recipient(number),
                    provider_message_id=self.provider_id(number, attempt),
                    token_valid=True,
                    campaign_id=self.campaign_id,
                    number=number,
                    attempt=attempt,
                    arrived_time=self.clock.tick(after_seconds),
                )
            )

    def report(
        self, status: MessageStatus, *numbers: int, reason: FailureReason | None = None
    ) -> None:
        """One commit that moves these to a status."""
        self.clock.tick()
        for number in numbers:
            if status in (S.SENT, S.DELIVERED, S.RETRYING):
                self.ids[number] = self.provider_id(number, self.latest[number].attempt)
        self._commit([self._moved(number, status, reason) for number in numbers])

    def send(self, *numbers: int, end: MessageStatus = S.DELIVERED) -> None:
        """Claimed, taken by the provider, SENT, and an end."""
        self.claim(*numbers)
        self.accept(*numbers)
        self.report(S.SENT, *numbers)
        self.report(end, *numbers)

    def provider_id(self, number: int, attempt: int) -> str:
        if self.channel is Channel.EMAIL:
            return f"request{attempt}.{self.campaign_id}.{number}"
        return f"SM{self.campaign_id}{number:04}{attempt:02}"

    def stored(self) -> StoredCampaign:
        return StoredCampaign(
            campaign_id=self.campaign_id,
            channel=self.channel,
            status=self.status,
            counts=self.counts,
            total=self.total,
            run=self.run_number,
            revision=len(self.changes),
            stop_time=self.stop_time,
            end_time=self.end_time,
        )

    def stored_messages(self) -> list[StoredMessage]:
        return [
            StoredMessage(
                campaign_id=self.campaign_id,
                number=number,
                recipient=self.recipient(number),
                status=message.status,
                failure_reason=message.failure_reason,
                run=self.runs[number],
                attempt=message.attempt,
                provider_message_id=self.ids[number],
                provider_code="",
            )
            for number, message in self.latest.items()
        ]

    def watched(self, watcher: str, together: int, *, since: int = 1) -> list[Watched]:
        """From a snapshot at a revision on, some commits at a time, with a heartbeat and a new stream after each."""
        at = self.changes[since - 1]
        responses = [self._told(watcher, Told.SNAPSHOT, at, 0, total=self.total)]
        for index in range(since, len(self.changes), together):
            commits = self.changes[index : index + together]
            reconnects = len(responses)
            messages = tuple(message for commit in commits for message in commit.messages)
            last = commits[-1]
            responses.append(
                replace(self._told(watcher, Told.CHANGES, last, reconnects), messages=messages)
            )
            responses.append(
                replace(
                    self._told(watcher, Told.HEARTBEAT, last, reconnects), status=None, counts=None
                )
            )
        return responses

    def seen(self, source: str) -> CampaignSeen:
        """As it is now."""
        return CampaignSeen(
            source=source,
            time=self.clock.time,
            campaign_id=self.campaign_id,
            channel=self.channel,
            status=self.status,
            counts=self.counts,
            total=self.total,
            holds_channel=self.status is CampaignStatus.IN_PROGRESS,
        )

    def exported(self, *, final: bool) -> Exported:
        """As it is now; `final`: and as it stays."""
        return Exported(
            campaign_id=self.campaign_id,
            begun_time=self.clock.time,
            ended_time=self.clock.time + 0.1,
            counts=self.counts,
            rows=self.total,
            numbers_distinct=self.total,
            told_rows=self.total,
            bytes_right=True,
            campaign_final=final,
        )

    def _begin(self, kind: ActionKind, **details: Any) -> None:
        begun = self.clock.time
        self.clock.tick()
        self.run_number += 1
        self.stop_time = self.end_time = None
        self._commit([], CampaignStatus.IN_PROGRESS)
        self._acted(kind, begun, run=self.run_number, **details)

    def _acted(self, kind: ActionKind, begun: float, **details: Any) -> None:
        self.actions.append(
            Acted(
                kind=kind,
                campaign_id=self.campaign_id,
                begun_time=begun,
                answered_time=self.clock.time + 0.01,
                ok=True,
                **details,
            )
        )

    def _kept(self, message: MessageChange) -> StoredAttempt:
        return StoredAttempt(
            campaign_id=self.campaign_id,
            number=message.number,
            attempt=message.attempt,
            run=self.runs[message.number],
            status=message.status,
            failure_reason=message.failure_reason,
            provider_message_id=self.ids[message.number],
        )

    def _moved(
        self,
        number: int,
        status: MessageStatus,
        reason: FailureReason | None = None,
        attempt: int | None = None,
    ) -> MessageChange:
        before = self.latest[number]
        self.latest[number] = MessageChange(
            number=number,
            status=status,
            failure_reason=reason,
            attempt=before.attempt if attempt is None else attempt,
            revision=len(self.changes) + 1,
        )
        return self.latest[number]

    def _commit(
        self, messages: Sequence[MessageChange], status: CampaignStatus | None = None
    ) -> None:
        counts = Counts(**{each.name.lower(): n for each, n in self.counts.items()})
        self.status = status or campaign_status(
            counts, run=self.run_number, template_valid=True, critical_failure=False
        )
        open_ones = counts.active or counts.retrying
        if messages and not open_ones and self.end_time is None:
            self.end_time = self.clock.time
        self.changes.append(
            StoredChange(
                campaign_id=self.campaign_id,
                revision=len(self.changes) + 1,
                commit_time=self.clock.time,
                status=self.status,
                counts=self.counts,
                messages=tuple(messages),
            )
        )

    def _told(
        self,
        watcher: str,
        told: Told,
        change: StoredChange,
        reconnects: int,
        total: int | None = None,
    ) -> Watched:
        return Watched(
            watcher=watcher,
            campaign_id=self.campaign_id,
            time=change.commit_time + 0.01,
            told=told,
            revision=change.revision,
            reconnects=reconnects,
            status=change.status,
            counts=change.counts,
            total=total,
        )


def history_of(*campaigns: MadeCampaign, **parts: Any) -> History:
    """What is stored and accepted of these campaigns, and two watchers of each; `parts`: the rest."""
    return History(
        seed=7,
        campaigns=[made.stored() for made in campaigns],
        messages=[message for made in campaigns for message in made.stored_messages()],
        attempts=[attempt for made in campaigns for attempt in made.attempts],
        changes=[change for made in campaigns for change in made.changes],
        acceptances=[acceptance for made in campaigns for acceptance in made.acceptances],
        actions=[action for made in campaigns for action in made.actions],
        watched=[
            response
            for made in campaigns
            for response in (
                *made.watched("each-commit", 1),
                *made.watched("some-commits", 3, since=min(2, len(made.changes))),
            )
        ],
        **parts,
    )
