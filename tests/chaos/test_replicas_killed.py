"""Two campaign services and two senders: one of each is killed in the middle of a run."""

from __future__ import annotations

import pytest

from outreach.local.stack import LocalStack, StackOptions
from services.sandbox.knobs import Knobs
from tests.campaign_history import SEED, SHORT_TIMERS, History, recipients
from tests.kills import PATIENT, RESTART_SECONDS_MAX

pytestmark = pytest.mark.chaos

#: Longer than the other sender needs to see that its sibling is dead, which it looks for every 3 s; callbacks are
#: retried for longer.
SENDER_DOWN_SECONDS = 20.0

KNOBS = Knobs(
    latency_ms=600,
    latency_jitter_ms=100,
    failed_codes={30003: 0.03},
    no_receipt_share=0.02,
    callback_delay_ms_min=50,
    callback_delay_ms_max=900,
    callback_duplicated_share=0.02,
    callback_retry_seconds=60,
)


async def test_one_of_two_replicas_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTREACH_POSTGRES_DSN", raising=False)
    monkeypatch.delenv("OUTREACH_NATS_URL", raising=False)
    options = StackOptions(settings=SHORT_TIMERS, seed=SEED, campaign_replicas=2, sender_replicas=2)
    async with LocalStack(options) as stack:
        async with stack.client() as client, stack.sandbox_client() as sandbox:
            client.timeouts = PATIENT
            history = History(client, sandbox, KNOBS, recipients(401, 2_000))
            history.in_doubt_max = 1  # its beginning was written down, and it had not left yet
            await history.prepare()
            await history.run()
            await history.in_the_middle(1 / 4)
            sender = stack.supervisor.kill("sender-sms-2", down_seconds=SENDER_DOWN_SECONDS)
            await history.in_the_middle(1 / 2)
            campaign = stack.supervisor.kill("campaign-2")
            await history.end()
            await stack.supervisor.wait_restarted("campaign-2", campaign, RESTART_SECONDS_MAX)
            await stack.supervisor.wait_restarted("sender-sms-2", sender, RESTART_SECONDS_MAX)
        log = stack.supervisor.log_path("sender-sms-1").read_text()
        assert "journal_adopted" in log, "the sender that lived adopts the dead one's journal"
