"""The promises, held against the provider's ledger, what is stored, and what clients were told.

Numbers as in docs/delivery-guarantees.md. Each check yields the violations of one promise. That one campaign runs
at a time (I6), and that what has arrived is not claimed, is checked at each commit, where the tables are
(`simulation.model.transactions`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from outreach.vocabulary import OUTCOME_RANK, CampaignStatus, FailureReason, MessageStatus, Outcome
from services.campaign.domain.lifecycle import (
    ACTIVE,
    FINAL,
    MESSAGE_EDGES,
    OUTCOME_TARGET,
    Counts,
    campaign_status,
)
from simulation.campaign_side import Stored
from simulation.clients import Done
from simulation.model.tables import Message
from simulation.provider import Accepted, Begun
from simulation.scenario import SEND_WINDOW_SECONDS, CampaignPlan, Scenario
from simulation.watchers import Told, Watched

S = MessageStatus
Attempt = tuple[UUID, int, int]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known at the end. `receipts_lost`: a store was wiped that held some."""

    scenario: Scenario
    stored: Mapping[CampaignPlan, Stored]
    begun: Sequence[Begun]
    accepted: Sequence[Accepted]
    done: Done
    watched: Sequence[tuple[Watched, int]]
    receipts_lost: bool

    def state_of(self, attempt: Attempt) -> Message | None:
        """What is stored of an attempt, also when a retry has followed it."""
        campaign_id, number, which = attempt
        for plan, stored in self.stored.items():
            if plan.campaign_id == campaign_id:
                followed = stored.attempts.get((number, which))
                message = stored.messages[number]
                return followed or (message if message.attempt == which else None)
        return None


def check(evidence: Evidence) -> list[str]:
    """Every violation found; empty: all promises were kept."""
    return [f"{check_one.__name__}: {text}" for check_one in CHECKS for text in check_one(evidence)]


def _name(plan: CampaignPlan, number: int) -> str:
    return f"{plan.campaign_id.int % 1000}/{number}"


def _key(one: Begun | Accepted) -> Attempt:
    return one.campaign_id, one.number, one.attempt


def runs_of_attempts(evidence: Evidence) -> dict[Attempt, int]:
    """In which run each attempt was claimed: a retry queues the message again and begins the next one."""
    runs: dict[Attempt, int] = {}
    for plan, stored in evidence.stored.items():
        last = dict.fromkeys(stored.messages, int(S.QUEUED))
        retries: Counter[int] = Counter()
        for commit in stored.log:
            changes = zip(commit.numbers, commit.statuses, commit.attempts, strict=True)
            for number, status, attempt in changes:
                if status == S.QUEUED and last[number] in (S.FAILED, S.CANCELLED):
                    retries[number] += 1
                last[number] = status
                if status == S.SENDING:
                    runs[plan.campaign_id, number, attempt] = retries[number]
    return runs


def every_message_ends_final(evidence: Evidence) -> Iterator[str]:
    """I1."""
    for plan, stored in evidence.stored.items():
        for number, message in stored.messages.items():
            if message.status not in FINAL:
                yield f"{_name(plan, number)} is {S(message.status).name} at the end"


def at_most_one_send_in_a_run(evidence: Evidence) -> Iterator[str]:
    """I2."""
    runs = runs_of_attempts(evidence)
    sends: Counter[tuple[UUID, int, int]] = Counter()
    for accepted in evidence.accepted:
        run = runs.get(_key(accepted))
        if run is None:
            yield f"{_label(_key(accepted))} was accepted and never claimed"
            continue
        sends[accepted.campaign_id, accepted.number, run] += 1
    for (campaign_id, number, run), count in sends.items():
        if count > 1:
            yield f"{campaign_id.int % 1000}/{number} was accepted {count} times after {run} retries"


def what_may_exist_is_not_sent_again(evidence: Evidence) -> Iterator[str]:
    """I2: once a request may have created a message, none begins for it in the same run."""
    runs = runs_of_attempts(evidence)
    uncertain: set[tuple[UUID, int, int]] = set()
    for begun in evidence.begun:
        message = (begun.campaign_id, begun.number, runs.get(_key(begun), -1))
        if message in uncertain:
            yield f"{_label(_key(begun))} began though an earlier request may have created it"
        elif begun.may_exist:
            uncertain.add(message)


def _label(attempt: Attempt) -> str:
    return f"{attempt[0].int % 1000}/{attempt[1]} attempt {attempt[2]}"


def every_accepted_send_is_known(evidence: Evidence) -> Iterator[str]:
    """I3. And what its stored receipts say is what is stored."""
    rank = OUTCOME_RANK[evidence.scenario.channel]
    for accepted in evidence.accepted:
        message = evidence.state_of(_key(accepted))
        if message is None or message.status in (S.WAITING, S.QUEUED, S.CANCELLED):
            state = "gone" if message is None else S(message.status).name
            yield f"{_label(_key(accepted))} was accepted, and is {state}"
            continue
        is_latest = any(
            stored.messages[accepted.number] is message
            for plan, stored in evidence.stored.items()
            if plan.campaign_id == accepted.campaign_id
        )
        told = max(accepted.told, key=rank.__getitem__, default=Outcome.ACCEPTED)
        if is_latest and told in (Outcome.DELIVERED, Outcome.FAILED) and not evidence.receipts_lost:
            # A look-up may know more than the receipts that were stored: a bounce whose event is lost.
            since = (outcome for outcome in accepted.happened if rank[outcome] >= rank[told])
            if message.status not in {OUTCOME_TARGET[outcome] for outcome in (told, *since)}:
                yield f"{_label(_key(accepted))} is {S(message.status).name}, its receipt said {told.name}"


def what_is_known_has_happened(evidence: Evidence) -> Iterator[str]:
    """I3, the other way round: of each attempt only what the provider did with its message.

    A retried message whose new attempt was handed back may be settled by an earlier one that arrived.
    """
    happened = {_key(accepted): accepted.happened for accepted in evidence.accepted}
    arrived = {key[:2] for key, known in happened.items() if Outcome.DELIVERED in known}
    for plan, stored in evidence.stored.items():
        for message in _attempts_of(stored):
            attempt = (plan.campaign_id, message.number, message.attempt)
            known = happened.get(attempt)
            may_be_settled = known is None and attempt[:2] in arrived and message.attempt > 1
            is_known = Outcome.DELIVERED in (known or ()) or may_be_settled
            if message.status == S.DELIVERED and not is_known:
                yield f"{_label(attempt)} is DELIVERED, and was not"
            is_refused = message.failure_reason == FailureReason.UNREACHABLE
            if is_refused and known is not None and Outcome.FAILED not in known:
                yield f"{_label(attempt)} is FAILED, and did not fail"


def _attempts_of(stored: Stored) -> Iterator[Message]:
    """All that were made: not messages that a retry queued and that turned out to have arrived."""
    yield from stored.attempts.values()
    for message in stored.messages.values():
        if (message.number, message.attempt) not in stored.attempts:
            yield message


def counts_add_up(evidence: Evidence) -> Iterator[str]:
    """I4: at each revision, in what watchers were told, and at the end."""
    for plan, stored in evidence.stored.items():
        statuses = dict.fromkeys(stored.messages, int(S.QUEUED))
        for commit in stored.log:
            statuses.update(zip(commit.numbers, commit.statuses, strict=True))
            counted = Counter(statuses.values())
            if commit.counts != [counted[status] for status in S]:
                yield f"{plan.campaign_id.int % 1000} revision {commit.revision}: {commit.counts}"
        counted = Counter(int(message.status) for message in stored.messages.values())
        if stored.counts.as_list() != [counted[status] for status in S]:
            yield f"{plan.campaign_id.int % 1000} at the end: {stored.counts}"
    for watched, _ in evidence.watched:
        for counts in watched.counts:
            if sum(counts) != watched.plan.messages:
                yield f"{watched.plan.campaign_id.int % 1000} told: {counts}"


_EDGES = frozenset((edge.source, edge.target) for edge in MESSAGE_EDGES)


def status_moves_on_permitted_edges(evidence: Evidence) -> Iterator[str]:
    """I5."""
    for plan, stored in evidence.stored.items():
        last = dict.fromkeys(stored.messages, int(S.QUEUED))
        attempts = dict.fromkeys(stored.messages, 0)
        for commit in stored.log:
            changes = zip(commit.numbers, commit.statuses, commit.attempts, strict=True)
            for number, status, attempt in changes:
                if (last[number], status) not in _EDGES or attempt < attempts[number]:
                    yield (
                        f"{_name(plan, number)} went from {S(last[number]).name} attempt "
                        f"{attempts[number]} to {S(status).name} attempt {attempt}"
                    )
                last[number], attempts[number] = status, attempt


def no_send_after_a_stop(evidence: Evidence) -> Iterator[str]:
    """I7."""
    runs = runs_of_attempts(evidence)
    for stopped in evidence.done.stops:
        for begun in evidence.begun:
            if (
                begun.campaign_id == stopped.campaign_id
                and runs.get(_key(begun)) == stopped.run - 1
                and begun.time > stopped.time + SEND_WINDOW_SECONDS
            ):
                late = begun.time - stopped.time
                yield f"{_label(_key(begun))} began {late:.2f} s after the stop"


def no_send_after_an_opt_out(evidence: Evidence) -> Iterator[str]:
    """I10."""
    for opt_out in evidence.done.opt_outs:
        for begun in evidence.begun:
            plan = next(p for p in evidence.stored if p.campaign_id == begun.campaign_id)
            late = begun.time - opt_out.time
            if plan.recipient(begun.number) == opt_out.recipient and late > SEND_WINDOW_SECONDS:
                yield f"{_label(_key(begun))} began {late:.2f} s after the opt-out"


def no_send_begins_after_its_window(evidence: Evidence) -> Iterator[str]:
    """What I7 and I10 rest on: from the claim's commit on, a send window at most."""
    claimed: dict[Attempt, float] = {}
    for plan, stored in evidence.stored.items():
        for commit in stored.log:
            changes = zip(commit.numbers, commit.statuses, commit.attempts, strict=True)
            for number, status, attempt in changes:
                if status == S.SENDING:
                    claimed[plan.campaign_id, number, attempt] = commit.commit_time
    for begun in evidence.begun:
        late = begun.time - claimed.get(_key(begun), begun.time)
        if late > SEND_WINDOW_SECONDS:
            yield f"{_label(_key(begun))} began {late:.2f} s after its claim"


def watchers_are_told_everything_once(evidence: Evidence) -> Iterator[str]:
    """I8."""
    for watched, position in evidence.watched:
        stored = evidence.stored[watched.plan]
        name = watched.plan.campaign_id.int % 1000
        expected = [
            Told(commit.revision, number, status, attempt)
            for commit in stored.log
            for number, status, attempt in zip(
                commit.numbers, commit.statuses, commit.attempts, strict=True
            )
        ]
        if watched.told != expected:
            yield f"a watcher of {name} was told {len(watched.told)} of {len(expected)} changes"
        if position != (stored.log[-1].revision if stored.log else 0):
            yield f"a watcher of {name} stands at revision {position}"
        if any(b <= a for a, b in zip(watched.revisions, watched.revisions[1:], strict=False)):
            yield f"a watcher of {name} was told revisions {watched.revisions}"


def a_run_ends_once_and_when_all_is_final(evidence: Evidence) -> Iterator[str]:
    """I9."""
    for plan, stored in evidence.stored.items():
        name = plan.campaign_id.int % 1000
        for commit in stored.log:
            counts = Counts(*commit.counts)
            is_active = any(commit.counts[status - 1] for status in ACTIVE)
            runs = commit.campaign_status == CampaignStatus.IN_PROGRESS
            # A retry opens its run, and queues messages, in one commit of two revisions.
            if is_active != runs and commit.numbers:
                yield f"{name} revision {commit.revision}: status {commit.campaign_status} with {counts}"
        if not stored.log:
            yield f"{name} has never been run"
            continue
        last = stored.log[-1]
        failed = stored.status == CampaignStatus.FAILED
        expected = campaign_status(
            stored.counts, run=1, template_valid=True, critical_failure=failed
        )
        if not stored.ended or stored.status != expected or last.campaign_status != expected:
            yield f"{name} is {CampaignStatus(stored.status).name} at the end, ended: {stored.ended}"


def only_what_had_begun_is_unconfirmed(evidence: Evidence) -> Iterator[str]:
    """Part of I3: nothing is given up as UNCONFIRMED that certainly was never sent."""
    begun = {_key(one) for one in evidence.begun}
    for plan, stored in evidence.stored.items():
        rows = [*stored.messages.values(), *stored.attempts.values()]
        for message in rows:
            attempt = (plan.campaign_id, message.number, message.attempt)
            if message.failure_reason == FailureReason.UNCONFIRMED and attempt not in begun:
                yield f"{_label(attempt)} is UNCONFIRMED, and no request of it ever began"


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    every_message_ends_final,
    at_most_one_send_in_a_run,
    what_may_exist_is_not_sent_again,
    every_accepted_send_is_known,
    what_is_known_has_happened,
    counts_add_up,
    status_moves_on_permitted_edges,
    no_send_after_a_stop,
    no_send_after_an_opt_out,
    no_send_begins_after_its_window,
    watchers_are_told_everything_once,
    a_run_ends_once_and_when_all_is_final,
    only_what_had_begun_is_unconfirmed,
)
