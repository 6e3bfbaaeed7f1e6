"""A handful of whole chaos runs, each of another family of faults. `make chaos SEEDS=…` has many more.

The campaigns are small, and the seeds such that nothing stays in doubt for long.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.run import run

pytestmark = pytest.mark.chaos

MESSAGES = 400


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [
        (4, ("kill-sender-sms", "kill-sender-email", "kill-campaign")),
        (9, ("link-cut", "link-reset-mid-frame", "link-stall")),
        (6, ("nats-wiped", "hang-postgres", "stop-postgres-immediate")),
        (6, ("crash-at:reports-committed", "crash-at:claim-received", "jobs-redelivered")),
    ],
    ids=lambda value: "" if isinstance(value, int) else value[0].partition("-")[0],
)
async def test_every_promise_is_kept(seed: int, kinds: tuple[str, ...], tmp_path: Path) -> None:
    result = await run(seed, messages=MESSAGES, kinds=kinds, keep_dir=tmp_path)
    assert [fault.kind for fault in result.history.faults] == [*result.plan.kinds]
    assert result.violations == [], result.plan.describe()
    assert len(result.history.acceptances) >= MESSAGES / 2
