"""Deliberate breaks, each of one guard that a promise rests on: the simulation has to notice every one of them.

`python -m tests.simulation.breaks NAME …` looks for the first seed that shows each of these.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending import adoption, look_ups, reporter, slots, stream
from outreach.sending.inbox import Forwarder
from outreach.sending.journal import Journal
from outreach.sending.outcomes import AttemptOutcome
from outreach.sending.stops import OverRuns
from outreach.vocabulary import Channel, MessageStatus, Outcome
from services.campaign.delivery import changes, reports, servicer, sweepers
from services.campaign.delivery.changes import QUERIES as DELIVERY
from services.campaign.domain.lifecycle import Counts
from services.campaign.store.campaigns import QUERIES as CAMPAIGNS
from services.campaign.watch.campaign_feed import CampaignFeed
from simulation.model import evidence, work
from simulation.model.registry import known_statements
from simulation.run import simulate

Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Breaking:
    """`shown_by`: a seed that notices it. When scenarios are drawn otherwise, another one does."""

    apply: Break
    shown_by: int


BREAKS: dict[str, Breaking] = {}


def a_break(*, shown_by: int) -> Callable[[Break], Break]:
    """Under the function's name."""

    def keep(function: Break) -> Break:
        BREAKS[function.__name__] = Breaking(function, shown_by)
        return function

    return keep


def _replace_statement(patch: pytest.MonkeyPatch, text: str, to: Callable[..., Any]) -> None:
    statements: Any = known_statements()
    to.__dict__.setdefault("locks_campaign", getattr(statements[text], "locks_campaign", False))
    patch.setitem(statements, text, to)


# What the database guards


@a_break(shown_by=1)
def a_claim_takes_what_is_being_sent(patch: pytest.MonkeyPatch) -> None:
    text = DELIVERY["claim_messages"]
    known = known_statements()[text]

    def claim(transaction: Any, campaign_id: Any, *arguments: Any) -> Any:
        campaign = work.changing(transaction, campaign_id)
        for number, message in campaign.messages.items():
            if message.status is MessageStatus.SENDING and number % 5 == 0:
                campaign.messages[number] = message._replace(status=MessageStatus.QUEUED)
        return known(transaction, campaign_id, *arguments)

    _replace_statement(patch, text, claim)


@a_break(shown_by=149)
def a_claim_is_granted_to_an_ended_instance(patch: pytest.MonkeyPatch) -> None:
    _replace_statement(patch, DELIVERY["end_instance"], lambda *_: [])


@a_break(shown_by=10)
def a_claim_is_granted_after_a_stop(patch: pytest.MonkeyPatch) -> None:
    """What else would hide it is off too: what is queued is not cancelled, and senders are not told."""
    patch.setattr(changes.LockedCampaign, "sending_allowed", True)
    patch.setattr(OverRuns, "add", lambda *_: False)
    patch.setattr(sweepers, "_still_applies", lambda query, _: query != "cancel_queued")


@a_break(shown_by=5)
def a_claim_takes_whom_opted_out(patch: pytest.MonkeyPatch) -> None:
    text = DELIVERY["claim_messages"]
    known = known_statements()[text]

    def claim(transaction: Any, *arguments: Any) -> Any:
        suppressions = transaction.tables.suppressions
        transaction.tables.suppressions = {}
        try:
            return known(transaction, *arguments)
        finally:
            transaction.tables.suppressions = suppressions

    _replace_statement(patch, text, claim)


@a_break(shown_by=1)
def two_campaigns_share_the_channel(patch: pytest.MonkeyPatch) -> None:
    text = CAMPAIGNS["begin_run"]
    known = known_statements()[text]

    def begin_run(transaction: Any, campaign_id: Any, mean: float) -> Any:
        others = [c for c in transaction.tables.campaigns.values() if c.holds_channel]
        for other in others:
            other.holds_channel = False
        try:
            return known(transaction, campaign_id, mean)
        finally:
            for other in others:
                other.holds_channel = True

    _replace_statement(patch, text, begin_run)


@a_break(shown_by=3)
def a_status_moves_backwards(patch: pytest.MonkeyPatch) -> None:
    edges = [source * 100 + target for source in range(2, 11) for target in range(2, 10)]
    patch.setattr(reports, "_EDGES", dict.fromkeys(reports._EDGES, edges))


@a_break(shown_by=84)
def a_report_of_an_earlier_attempt_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evidence, "is_about", lambda *_: True)


@a_break(shown_by=572)
def what_arrived_is_claimed(patch: pytest.MonkeyPatch) -> None:
    _replace_statement(patch, DELIVERY["settle_arrived"], lambda *_: [])


@a_break(shown_by=9)
def what_is_unknown_stays_its_instances(patch: pytest.MonkeyPatch) -> None:
    _replace_statement(patch, DELIVERY["release_unknown_attempts"], lambda *_: [])


@a_break(shown_by=3)
def what_is_given_up_is_queued_again(patch: pytest.MonkeyPatch) -> None:
    text = DELIVERY["give_up_unknown"]
    known = known_statements()[text]

    def give_up(transaction: Any, campaign_id: Any, *arguments: Any) -> Any:
        rows: Any = known(transaction, campaign_id, *arguments)
        campaign = work.changing(transaction, campaign_id)
        for row in rows:
            number = row["number"]
            campaign.messages[number] = campaign.messages[number]._replace(
                status=MessageStatus.QUEUED, failure_reason=None
            )
            row.update(new_status=MessageStatus.QUEUED, failure_reason=0)
        return rows

    _replace_statement(patch, text, give_up)


@a_break(shown_by=1)
def a_message_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    known = Counts.moved

    def moved(self: Counts, moves: Any) -> Counts:
        pairs = [*moves]
        counts = known(self, pairs)
        return replace(counts, delivered=counts.delivered + 1) if len(pairs) > 3 else counts

    patch.setattr(Counts, "moved", moved)


# What the campaign service's code guards


@a_break(shown_by=9)
def reports_are_acknowledged_before_their_commit(patch: pytest.MonkeyPatch) -> None:
    running: set[asyncio.Task[None]] = set()

    async def later(self: Any, batches: Any) -> None:
        async def commit() -> None:
            await asyncio.sleep(0.05)
            await self._servicer.reports.apply(batches)

        task = asyncio.get_running_loop().create_task(commit())
        running.add(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    patch.setattr(servicer._Stream, "_apply", later)


@a_break(shown_by=78)
def the_last_report_of_an_attempt_counts(patch: pytest.MonkeyPatch) -> None:
    rank = dict.fromkeys(Channel, dict.fromkeys(Outcome, 0))
    patch.setattr(reports, "OUTCOME_RANK", rank)
    patch.setattr("outreach.sending.outcomes.OUTCOME_RANK", rank)


@a_break(shown_by=9)
def a_watcher_skips_a_commit(patch: pytest.MonkeyPatch) -> None:
    known = CampaignFeed.after

    async def after(self: CampaignFeed, position: int) -> Any:
        commits = await known(self, position)
        return commits[1:] if len(commits) > 4 else commits

    patch.setattr(CampaignFeed, "after", after)


# What the senders guard


@a_break(shown_by=3)
def what_had_begun_is_not_told_of(patch: pytest.MonkeyPatch) -> None:
    known = adoption.ended_instances

    def ended(state: Any) -> Any:
        state.begun.clear()
        return known(state)

    patch.setattr(adoption, "ended_instances", ended)


@a_break(shown_by=9)
def journals_are_not_adopted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adoption, "take_dead_journals", lambda _: [])


@a_break(shown_by=9)
def reports_in_a_journal_are_dropped(patch: pytest.MonkeyPatch) -> None:
    async def adopt(self: Any, journal: Any) -> None:
        through = 0
        for instance in adoption.ended_instances(journal.state):
            through = self._reporter.submit_ended_instance(instance)
        await self._reporter.acked_through(through)

    patch.setattr(adoption.Adopter, "_adopt", adopt)


@a_break(shown_by=3)
def a_request_is_not_journaled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "begun", lambda *_: None)


@a_break(shown_by=1)
def the_window_is_ignored(patch: pytest.MonkeyPatch) -> None:
    known = stream.Claimed

    def claimed(result: Any, instance: Any, deadline: float) -> Any:
        return known(result, instance, deadline + 60)

    patch.setattr(stream, "Claimed", claimed)


@a_break(shown_by=1)
def the_window_is_not_looked_at_before_the_request(patch: pytest.MonkeyPatch) -> None:
    def begin(self: Any) -> None:
        self.begun = True
        self._journal.begun(self._index, self._campaign_id, self._attempts)

    patch.setattr(slots._Begin, "__call__", begin)


@a_break(shown_by=7)
def a_lost_acknowledgement_counts_as_one(patch: pytest.MonkeyPatch) -> None:
    known = reporter.Reporter.feed

    async def feed(self: Any, send: Any, sent: Any, reports_max: int) -> None:
        if self._sealed and getattr(self, "_fed", 0):
            self.on_ack(self._fed)

        async def noted(request: Any) -> None:
            await send(request)
            self._fed = max(b.batch_id for b in self._sealed) if self._sealed else 0

        await known(self, noted, sent, reports_max)

    patch.setattr(reporter.Reporter, "feed", feed)


@a_break(shown_by=7)
def an_instance_is_ended_before_its_reports(patch: pytest.MonkeyPatch) -> None:
    async def end(self: Any, instance: Any) -> None:
        ended = delivery_pb2.EndedInstance(instance_id=str(instance.instance_id))
        await self._reporter.acked_through(self._reporter.submit_ended_instance(ended))
        self._journal.instance_ended(instance.index)

    patch.setattr(stream.DeliveryStream, "_end", end)


@a_break(shown_by=22)
def a_broken_streams_instance_is_not_ended(patch: pytest.MonkeyPatch) -> None:
    async def end(self: Any, instance: Any) -> None:
        self._journal.instance_ended(instance.index)

    patch.setattr(stream.DeliveryStream, "_end", end)


@a_break(shown_by=5)
def a_time_out_is_taken_for_not_sent(patch: pytest.MonkeyPatch) -> None:
    known = AttemptOutcome.to_report

    def to_report(self: AttemptOutcome) -> delivery_pb2.Report:
        report = known(self)
        if self.outcome is Outcome.UNKNOWN:
            report.outcome = delivery_pb2.OUTCOME_HANDED_BACK
        return report

    patch.setattr(AttemptOutcome, "to_report", to_report)


@a_break(shown_by=3)
def a_look_up_that_finds_nothing_is_proof(patch: pytest.MonkeyPatch) -> None:
    known = look_ups.LookUps._look_up

    async def look_up(self: Any, *arguments: Any) -> Sequence[AttemptOutcome]:
        return [
            AttemptOutcome(o.number, o.attempt, Outcome.HANDED_BACK)
            if o.outcome is Outcome.NOT_FOUND
            else o
            for o in await known(self, *arguments)
        ]

    patch.setattr(look_ups.LookUps, "_look_up", look_up)


@a_break(shown_by=9)
def receipts_are_acknowledged_before_their_commit(patch: pytest.MonkeyPatch) -> None:
    async def acknowledge(self: Forwarder) -> None:
        while True:
            message, _ = await self._forwarded.get()
            self._held.pop(id(message), None)
            await message.ack()

    patch.setattr(Forwarder, "_acknowledge", acknowledge)


def first_seed(name: str) -> int:
    """The first that shows a break; looked for until there is one."""
    with pytest.MonkeyPatch.context() as patch:
        BREAKS[name].apply(patch)
        return next(seed for seed in count(1) if simulate(seed).violations)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        sys.stdout.write(f"{wanted}: {first_seed(wanted)}\n")
