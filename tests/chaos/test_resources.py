"""What a sample of a stack holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.resources import Sampler
from chaos.task_count import counting_tasks, read_task_count, task_count_path
from outreach.local.stack import LocalStack, StackOptions
from tests.waiting import eventually

pytestmark = pytest.mark.chaos


async def test_a_sample_has_every_process_and_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTREACH_POSTGRES_DSN", raising=False)
    monkeypatch.delenv("OUTREACH_NATS_URL", raising=False)
    async with LocalStack(StackOptions(durable=False)) as stack:
        sampler = Sampler(stack)
        found = {sample.source: sample for sample in await sampler.sample()}

        assert found.keys() >= {*stack.process_names, "table message", "table campaign"}
        for name in stack.process_names:
            assert (found[name].rss_bytes or 0) > 1_000_000, name
            assert (found[name].file_descriptors or 0) > 3, name
        assert (found["campaign-1"].connections or 0) > 0
        assert (found["campaign-1"].threads or 0) > 0
        assert found["jetstream"].jetstream_messages == 0
        assert (found["postgres"].connections or 0) > 0
        assert (found["tables"].table_bytes or 0) > 100_000
        assert len({sample.time for sample in found.values()}) == 1

        # Until the stack is stopped, which waits for none of them.
        old = stack.supervisor.kill("postgres", down_seconds=600.0)
        stack.supervisor.kill("nats", down_seconds=600.0)
        await eventually(lambda: stack.supervisor.pid("postgres") != old, what="postgres is down")
        down = {sample.source: sample for sample in await sampler.sample()}
        assert "table message" not in down
        assert "campaign-1" in down


async def test_a_process_counts_its_tasks(tmp_path: Path) -> None:
    path = task_count_path(tmp_path, "campaign-1")
    assert read_task_count(path) is None
    counted: list[int] = []

    async def main() -> str:
        before = len(asyncio.all_tasks()) - 1
        await eventually(lambda: read_task_count(path) is not None, 60, "the count is written")
        counted.append((read_task_count(path) or 0) - before)
        return "done"

    assert await counting_tasks(main(), path) == "done"
    assert counted == [0]
