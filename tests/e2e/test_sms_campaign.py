"""SMS campaigns through all processes, the public client on one side, the provider's double on the
other: the end of every message is what its fate says, and nobody gets a message twice.
"""

from __future__ import annotations

from collections import Counter

import pytest

from outreach.local.stack import LocalStack
from outreach.vocabulary import MessageStatus
from services.sandbox.fates import Fates
from services.sandbox.knobs import Knobs
from tests.campaign_history import (
    END_SECONDS_MAX,
    SEED,
    UNCONFIRMED,
    End,
    History,
    counts_of,
    recipients,
)
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FAILURES = {30003: 0.03, 30005: 0.02, 30006: 0.01, 30007: 0.01, 30008: 0.01, 30036: 0.01}
# 39999 is in no table of ours: OTHER, with the code as it came.
REJECTED = {21610: 0.02, 21211: 0.01, 21408: 0.01, 21614: 0.01, 39999: 0.01}

EVERYTHING = Knobs(
    latency_ms=5,
    latency_jitter_ms=30,
    concurrency_max=24,
    http_429_share=0.02,
    http_500_before_accept_share=0.01,
    drop_before_accept_share=0.01,
    http_500_after_accept_share=0.01,
    drop_after_accept_share=0.01,
    rejected_codes=REJECTED,
    failed_codes=FAILURES,
    no_receipt_share=0.03,
    callback_delay_ms_min=50,
    callback_delay_ms_max=900,
    callback_lost_share=0.03,
    callback_duplicated_share=0.05,
    callback_reordered_share=0.1,
    callback_early_share=0.1,
)

# Nothing but the final status is told, and half of that is lost: attempts in doubt of which no
# callback comes must be found by a look-up.
DOUBT = Knobs(
    http_500_after_accept_share=0.1,
    drop_after_accept_share=0.1,
    http_500_before_accept_share=0.05,
    failed_codes={30003: 0.2},
    no_receipt_share=0.1,
    callback_statuses=(),
    callback_delay_ms_min=50,
    callback_delay_ms_max=500,
    callback_lost_share=0.5,
)


async def test_two_thousand_messages_end_as_their_fates_say(stack: LocalStack) -> None:
    to = recipients(201, 2_000)
    stopped = frozenset(to[7::100])
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = History(client, sandbox, EVERYTHING, to, stopped)
        await history.prepare()
        for recipient in sorted(stopped):
            assert (await sandbox.reply(recipient, "STOP"))["receiver_status"] == 204

        async def suppressed() -> bool:
            estimate = await client.estimate_campaign(history.campaign_id)
            return estimate.suppressed == len(stopped)

        await eventually(suppressed, END_SECONDS_MAX, "all STOP replies are taken in")
        await history.run()
        campaign = await history.end()

        # The parts of the mixture were there, or the above proves little.
        ends = Counter(must.end for must in history.expected().values())
        by_status: Counter[MessageStatus] = Counter()
        for end, number in ends.items():
            by_status[end.status] += number
        counts = {status.name.lower(): number for status, number in by_status.items()}
        assert counts_of(campaign.counts) == counts
        assert sum(counts.values()) == len(to)
        codes = {end.provider_code for end in ends}
        assert {str(code) for code in (*FAILURES, *REJECTED)} <= codes
        assert ends[End(MessageStatus.OPTED_OUT)] == len(stopped)
        unconfirmed = ends[UNCONFIRMED]
        ledger = await sandbox.ledger()
        assert unconfirmed == ledger["http_500_before_accept"] + ledger["dropped_before_accept"]
        assert unconfirmed > 0
        assert ledger["http_500_after_accept"] > 0
        assert ledger["dropped_after_accept"] > 0
        fates = Fates(EVERYTHING, SEED)
        assert sum(fates.of(recipient).early for recipient in to) > 100
        throttled_once = sum(
            fates.of(recipient).transport_fault == "http_429" for recipient in set(to) - stopped
        )
        # More than the share: the concurrency was above what the provider takes, too.
        assert ledger["throttled"] > throttled_once > 0


async def test_attempts_in_doubt_are_looked_up(stack: LocalStack) -> None:
    to = recipients(202, 400)
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = History(client, sandbox, DOUBT, to)
        await history.prepare()
        await history.run()
        await history.end()
        fates = Fates(DOUBT, SEED)
        silent = [
            fate
            for fate in map(fates.of, to)
            if fate.transport_fault is not None
            and fate.transport_fault.accepts
            and fate.receipt is None
        ]
        assert {fate.final_status for fate in silent} == {"delivered", "undelivered", "sent"}


async def test_a_second_campaign_leaves_those_out_whom_the_first_found_opted_out(
    stack: LocalStack,
) -> None:
    to = recipients(203, 100)
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        refused = Knobs(rejected_codes={21610: 0.5}, callback_delay_ms_max=200)
        first = History(client, sandbox, refused, to)
        await first.prepare()
        await first.run()
        await first.end()
        opted_out = frozenset(to for to, must in first.expected().items() if must.end.status == 9)
        assert 20 < len(opted_out) < 80
        # The provider would take them again; we do not offer them.
        second = History(client, sandbox, Knobs(callback_delay_ms_max=200), to, opted_out)
        await second.prepare()
        await second.run()
        await second.end()
