"""The example program, run as its text says."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from outreach.local.example_contacts import example_contacts
from outreach.local.stack import LocalStack, StackOptions

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_file_is_the_demos_small_one() -> None:
    assert (EXAMPLES / "contacts.csv").read_bytes() == example_contacts(60).csv_bytes


async def test_the_example_program_sends_a_campaign() -> None:
    async with LocalStack(StackOptions(durable=False)) as stack:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "send_campaign.py"), str(EXAMPLES / "contacts.csv")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **stack.exports, "PYTHONPATH": str(EXAMPLES.parent)},
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    last = out.decode().splitlines()[-1]
    assert last.startswith("CAMPAIGN_STATUS_COMPLETE ")
    assert "delivered: 60" in last
