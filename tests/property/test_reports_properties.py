"""The report stream under loss, repetition and reordering: the same set of reports ends in the same state.

Against the real statements on a real PostgreSQL. A report may come twice, late, after the message
was claimed again, and in any batch; the twin campaign is told everything once and in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.postgres.pool import create_pool
from outreach.vocabulary import Channel, FailureReason, MessageStatus, Outcome
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.reports import Reports
from tests.campaign_data import RECIPIENT_KEY, Running, Wakes, assert_exact, running_campaign

S = MessageStatus
O = Outcome  # noqa: E741 - the tables below are about nothing else

#: What may be told of one attempt, in order, by channel; and what it comes to.
STORIES: dict[Channel, dict[tuple[Outcome, ...], MessageStatus]] = {
    Channel.SMS: {
        (): S.SENDING,
        (O.ACCEPTED,): S.SENT,
        (O.ACCEPTED, O.DELIVERED): S.DELIVERED,
        (O.ACCEPTED, O.FAILED): S.FAILED,
        # told both: whoever has it is not sent it again as a failed one
        (O.ACCEPTED, O.DELIVERED, O.FAILED): S.DELIVERED,
        (O.ACCEPTED, O.FAILED, O.DELIVERED): S.DELIVERED,
        (O.REJECTED,): S.FAILED,
        (O.OPTED_OUT,): S.OPTED_OUT,
        (O.HANDED_BACK,): S.QUEUED,
        (O.UNKNOWN,): S.SENDING,
        (O.UNKNOWN, O.NOT_FOUND): S.SENDING,
        (O.UNKNOWN, O.NOT_FOUND, O.ACCEPTED, O.DELIVERED): S.DELIVERED,
        (O.UNKNOWN, O.FAILED): S.FAILED,
    },
    Channel.EMAIL: {
        (): S.SENDING,
        (O.ACCEPTED,): S.SENT,
        (O.ACCEPTED, O.ACCEPTED): S.SENT,  # the answer, and the event that says the same
        (O.ACCEPTED, O.DEFERRED): S.RETRYING,
        (
            O.DEFERRED,
            O.DEFERRED,
            O.DEFERRED,
        ): S.RETRYING,  # the answer got lost; every try is told of
        (O.ACCEPTED, O.DEFERRED, O.DELIVERED): S.DELIVERED,
        (O.ACCEPTED, O.DEFERRED, O.DEFERRED, O.FAILED): S.FAILED,
        (O.ACCEPTED, O.DEFERRED, O.OPTED_OUT): S.OPTED_OUT,
        (O.ACCEPTED, O.DELIVERED, O.FAILED): S.FAILED,  # a bounce after delivery
        (O.ACCEPTED, O.DEFERRED, O.DELIVERED, O.FAILED): S.FAILED,
        (O.ACCEPTED, O.OPTED_OUT): S.OPTED_OUT,
        (O.REJECTED,): S.FAILED,
        (O.HANDED_BACK,): S.QUEUED,
        (O.UNKNOWN, O.DEFERRED, O.FAILED): S.FAILED,
        (O.UNKNOWN, O.NOT_FOUND, O.DEFERRED): S.RETRYING,
        (O.UNKNOWN, O.NOT_FOUND, O.ACCEPTED): S.SENT,
    },
}


@dataclass(frozen=True)
class Case:
    """Two attempts' worth of reports: those of the second only for messages that were handed back."""

    channel: Channel
    first: tuple[tuple[Outcome, ...], ...]
    second: tuple[tuple[Outcome, ...], ...]
    random: Any


@st.composite
def cases(draw: st.DrawFn) -> Case:
    channel = draw(st.sampled_from(Channel))
    stories = st.sampled_from(sorted(STORIES[channel]))
    contacts = draw(st.integers(1, 6))
    # Half of them are handed back: only those have a second attempt, which late reports could disturb.
    first = st.one_of(st.just((O.HANDED_BACK,)), stories)
    return Case(
        channel,
        tuple(draw(first) for _ in range(contacts)),
        tuple(draw(stories) for _ in range(contacts)),
        draw(st.randoms(use_true_random=False)),
    )


def reports_of(stories: Sequence[tuple[Outcome, ...]], attempt: int) -> list[pb.Report]:
    """In order, each once."""
    return [
        report(number, attempt, outcome)
        for number, story in enumerate(stories, 1)
        for outcome in story
    ]


def report(number: int, attempt: int, outcome: Outcome) -> pb.Report:
    more: dict[str, Any] = {}
    if outcome in {O.REJECTED, O.FAILED}:
        more = {"failure_reason": int(FailureReason.UNREACHABLE), "provider_code": "30003"}
    if outcome in {O.ACCEPTED, O.DELIVERED, O.FAILED, O.DEFERRED}:
        more["provider_message_id"] = f"SM{number}-{attempt}"
    if outcome is O.ACCEPTED:
        more["segments"] = 2
    return pb.Report(number=number, attempt=attempt, outcome=int(outcome), **more)  # type: ignore[arg-type] # same numbers


class Bench:
    """A database and a loop that outlive the examples."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.claims = Claims(pool, Wakes())
        self.reports = Reports(
            pool, Wakes(), recipient_key=RECIPIENT_KEY, look_up_after_seconds=60.0
        )

    async def claim(self, campaign: Running) -> None:
        await self.claims.claim(uuid4(), campaign.campaign_id, 1, 1, campaign.contacts, 1_000)

    async def tell(self, campaign: Running, batches: Sequence[Sequence[pb.Report]]) -> None:
        await self.reports.apply(
            [
                pb.ReportBatch(
                    campaigns=[
                        pb.CampaignReports(campaign_id=str(campaign.campaign_id), reports=batch)
                    ]
                )
                for batch in batches
            ]
        )

    async def tell_anyhow(
        self, campaign: Running, reports: list[pb.Report], old: list[pb.Report], random: Any
    ) -> None:
        """Each at least once, in any order and any batches, among repetitions of these and of old ones."""
        told = reports + [random.choice(reports + old) for _ in range(8) if reports or old]
        random.shuffle(told)
        while told:
            batches = []
            for _ in range(random.randint(1, 3)):
                size = random.randint(1, 6)
                batches.append(told[:size])
                told = told[size:]
            await self.tell(campaign, [batch for batch in batches if batch])

    async def state(self, campaign_id: UUID) -> tuple[list[Any], list[Any], list[Any]]:
        """Messages, unknown attempts, and who was suppressed."""
        messages = await self.pool.fetch(
            "SELECT number, status, attempt, failure_reason, provider_code, provider_message_id, segments "
            "FROM message WHERE campaign_id = $1 ORDER BY number",
            campaign_id,
        )
        unknown = await self.pool.fetch(
            "SELECT number, attempt FROM unknown_attempt WHERE campaign_id = $1 ORDER BY number",
            campaign_id,
        )
        suppressed = await self.pool.fetch(
            "SELECT c.number FROM campaign k JOIN contact c ON c.campaign_id = k.id "
            "JOIN suppression s USING (organisation_id, recipient_hash) WHERE k.id = $1 ORDER BY 1",
            campaign_id,
        )
        return (
            [tuple(row) for row in messages],
            [tuple(row) for row in unknown],
            [row["number"] for row in suppressed],
        )

    async def check(self, case: Case) -> None:
        contacts = len(case.first)
        twin, campaign = [
            await running_campaign(self.pool, contacts, channel=case.channel) for _ in range(2)
        ]
        handed_back = {
            number for number, story in enumerate(case.first, 1) if O.HANDED_BACK in story
        }
        first = reports_of(case.first, 1)
        second = [each for each in reports_of(case.second, 2) if each.number in handed_back]
        for each in (twin, campaign):
            await self.claim(each)
        for one in first:
            await self.tell(twin, [[one]])
        await self.tell_anyhow(campaign, first, [], case.random)
        assert await self.state(campaign.campaign_id) == await self.state(twin.campaign_id)
        for each in (twin, campaign):
            await self.claim(each)
        for one in second:
            await self.tell(twin, [[one]])
        await self.tell_anyhow(campaign, second, first, case.random)
        state = await self.state(campaign.campaign_id)
        assert state == await self.state(twin.campaign_id)
        for number, status, attempt, *_ in state[0]:
            stories = case.second if number in handed_back else case.first
            assert status == STORIES[case.channel][stories[number - 1]]
            assert attempt == (2 if number in handed_back else 1)
        assert state[1] == [
            (number, attempt)
            for number, status, attempt, *_ in state[0]
            if status == S.SENDING
            and O.UNKNOWN in (case.second if attempt == 2 else case.first)[number - 1]
        ]
        for each in (twin, campaign):
            await assert_exact(self.pool, each.campaign_id)


@pytest.fixture
def bench(database_dsn: str) -> Iterator[tuple[asyncio.Runner, Bench]]:
    with asyncio.Runner() as runner:
        pool = runner.run(create_pool(database_dsn, application_name="tests"))
        yield runner, Bench(pool)
        runner.run(pool.close())


# The database is shared by the examples on purpose: each makes campaigns of its own in it.
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_any_order_and_repetition_of_the_same_reports_ends_in_the_same_state(
    bench: tuple[asyncio.Runner, Bench], case: Case
) -> None:
    runner, on_database = bench
    runner.run(on_database.check(case))
