"""Whatever is claimed, told, timed out and taken back, in any order: what is committed is permitted, and adds up.

Against the real statements on a real PostgreSQL, with a clock that the test sets forward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.postgres.pool import create_pool
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus, Outcome
from services.campaign.delivery.sweepers import Sweepers, Timers
from services.campaign.domain.lifecycle import ACTIVE, MESSAGE_EDGES, Cause
from tests.campaign_data import Running, Wakes, assert_exact, campaign_row, running_campaign
from tests.delivery_rig import Delivery

S = MessageStatus

TIMERS = Timers(
    assumed_delivered_after_seconds=600,
    unconfirmed_after_seconds=900,
    look_up_after_seconds=20,
    send_window_seconds=10,
    request_seconds_max={Channel.SMS: 20, Channel.EMAIL: 60},
    email_look_up_after_seconds=3_600,
    email_timed_out_after_seconds=96 * 3_600,
    change_log_kept_seconds=24 * 3_600,
)
#: What may happen next; the rest of each draw says to which messages.
STEPS = (
    "claim",
    "tell",
    "tell",
    "tell",
    "tell late",
    "opt out",
    "wait a minute",
    "wait an hour",
    "wait four days",
    "sweep",
    "look up",
    "sender ends",
    "account refused",
)
CONTACTS = 5
#: Edges that the delivery side takes; a run and a retry are others' business.
EDGES = {
    channel: {
        (edge.source, edge.target)
        for edge in MESSAGE_EDGES
        if channel in edge.channels and edge.cause not in {Cause.RUN, Cause.RETRY}
    }
    for channel in Channel
}


class Walk:
    """One campaign, and what has been learned to hold of it."""

    def __init__(self, delivery: Delivery, campaign: Running, channel: Channel) -> None:
        self.delivery = delivery
        self.pool = delivery.pool
        self.campaign = campaign
        self.channel = channel
        self.sweepers = Sweepers(self.pool, Wakes(), None, TIMERS, purge=_nothing)  # type: ignore[arg-type] # none
        self.end_time: object = None

    async def step(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(STEPS))
        numbers = data.draw(st.lists(st.integers(1, CONTACTS), min_size=1, max_size=4, unique=True))
        if kind == "claim":
            await self.delivery.claim(self.campaign, len(numbers))
        elif kind.startswith("tell"):
            await self._tell(data, numbers, late=kind == "tell late")
        elif kind == "opt out":
            await self._opt_out(numbers)
        elif kind.startswith("wait"):
            hours = {"wait a minute": 1 / 60, "wait an hour": 1.1, "wait four days": 96.1}[kind]
            await self._wait(timedelta(hours=hours))
        elif kind == "sweep":
            await self._sweep()
        elif kind == "look up":
            await self.delivery.look_ups.lease(self.campaign.campaign_id, len(numbers))
        elif kind == "sender ends":
            ended, self.delivery.instance = self.delivery.instance, uuid4()
            await self.delivery.end(ended, self.campaign, [(number, 1) for number in numbers])
        else:
            await self.delivery.fail(self.campaign, FailureReason.ACCOUNT_PROBLEM)

    async def _tell(self, data: st.DataObject, numbers: list[int], *, late: bool) -> None:
        attempts = await self.pool.fetch(
            "SELECT number, attempt FROM message WHERE campaign_id = $1 AND number = ANY ($2)",
            self.campaign.campaign_id,
            numbers,
        )
        reports = []
        for row in attempts:
            attempt = row["attempt"] - 1 if late else row["attempt"]
            outcome = data.draw(st.sampled_from(Outcome))
            failed = outcome in {Outcome.REJECTED, Outcome.FAILED}
            reports.append(
                pb.Report(
                    number=row["number"],
                    attempt=max(attempt, 0),
                    outcome=int(outcome),  # type: ignore[arg-type] # same numbers, held by a test
                    failure_reason=9 if failed else 0,  # type: ignore[arg-type] # one of them
                )
            )
        await self.delivery.report(self.campaign, *reports)

    async def _opt_out(self, numbers: list[int]) -> None:
        await self.delivery.opt(
            *(
                pb.OptOut(
                    organisation_id=str(self.campaign.organisation_id),
                    channel=int(self.channel),  # type: ignore[arg-type] # same numbers
                    campaign_id=str(self.campaign.campaign_id),
                    number=number,
                    action=pb.OPT_OUT_ACTION_ADD,
                )
                for number in numbers
            )
        )

    async def _wait(self, time: timedelta) -> None:
        for table, column, key in (
            ("message", "update_time", "campaign_id"),
            ("message", "claim_time", "campaign_id"),
            ("campaign", "start_time", "id"),
            ("unknown_attempt", "unknown_time", "campaign_id"),
            ("unknown_attempt", "next_look_up_time", "campaign_id"),
        ):
            await self.pool.execute(
                f"UPDATE {table} SET {column} = {column} - $2::interval WHERE {key} = $1",
                self.campaign.campaign_id,
                time,
            )

    async def _sweep(self) -> None:
        for sweep in (
            self.sweepers.find_overdue_claims,
            self.sweepers.find_silent_emails,
            self.sweepers.give_up_unknown,
            self.sweepers.assume_delivered,
            self.sweepers.time_out_emails,
            self.sweepers.cancel_queued,
        ):
            await sweep()

    async def check(self) -> None:
        await assert_exact(self.pool, self.campaign.campaign_id)
        row = await campaign_row(self.pool, self.campaign.campaign_id)
        counts = {status: row[status.name.lower()] for status in S}
        active = sum(counts[status] for status in ACTIVE)
        assert row["holds_channel"] == (row["status"] == CampaignStatus.IN_PROGRESS)
        assert row["holds_channel"] == bool(active)
        # It ends with its last message, once and for good.
        assert (row["end_time"] is not None) == (not active and not counts[S.RETRYING])
        assert self.end_time in (None, row["end_time"])
        self.end_time = row["end_time"]
        waiting = await self.pool.fetch(
            "SELECT m.status, m.attempt = u.attempt AS latest FROM unknown_attempt u"
            " JOIN message m USING (campaign_id, number) WHERE u.campaign_id = $1",
            self.campaign.campaign_id,
        )
        looked_up = {S.SENDING, S.SENT} if self.channel is Channel.EMAIL else {S.SENDING}
        assert {each["status"] for each in waiting} <= looked_up
        assert all(each["latest"] for each in waiting)

    async def check_moves(self) -> None:
        """Every change of the log is an edge of the table, and leads on from the change before it."""
        log = await self.pool.fetch(
            "SELECT numbers, statuses FROM change_log WHERE campaign_id = $1 ORDER BY revision",
            self.campaign.campaign_id,
        )
        status = dict.fromkeys(range(1, CONTACTS + 1), S.QUEUED)
        for entry in log:
            for number, target in zip(entry["numbers"], entry["statuses"], strict=True):
                assert (status[number], S(target)) in EDGES[self.channel]
                status[number] = S(target)


async def _nothing(connection: object) -> None:
    assert connection is not None


@pytest.fixture
def bench(database_dsn: str) -> Iterator[tuple[asyncio.Runner, Any]]:
    with asyncio.Runner() as runner:
        pool = runner.run(create_pool(database_dsn, application_name="tests"))
        yield runner, pool
        runner.run(pool.close())


# The database is shared by the examples on purpose: each makes a campaign of its own in it.
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data(), st.sampled_from(Channel), st.integers(1, 25))
def test_every_committed_change_is_permitted_and_the_campaign_ends_once(
    bench: tuple[asyncio.Runner, Any], data: st.DataObject, channel: Channel, steps: int
) -> None:
    runner, pool = bench

    async def walk() -> None:
        campaign = await running_campaign(pool, CONTACTS, channel=channel)
        walk = Walk(Delivery(pool), campaign, channel)
        for _ in range(steps):
            await walk.step(data)
            await walk.check()
        # Left alone, everything comes to an end.
        await walk.delivery.fail(campaign, FailureReason.ACCOUNT_PROBLEM)
        for _ in range(3):
            await walk._wait(timedelta(hours=97))
            await walk._sweep()
            await walk.check()
        assert walk.end_time is not None
        await walk.check_moves()

    runner.run(walk())
