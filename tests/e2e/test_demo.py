"""`outreach demo`, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.e2e


async def demo(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outreach.cli", "demo", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_every_message_is_accounted_for() -> None:
    code, out, err = await demo("--contacts", "400", "--pace", "400", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["exact"]
    for channel in ("sms", "email"):
        one = told[channel]
        assert one["exact"]
        assert one["differences"] == []
        assert one["total"] == 400
        counts = one["campaign"]["counts"]
        assert counts["total"] == 400
        assert one["campaign"]["contacts"]["invalid"] > 0
        assert one["campaign"]["contacts"]["duplicates"] > 0
        assert counts["delivered"] > 300
        by_status = {line["status"]: line["campaign"] for line in one["accounts"]}
        assert by_status["DELIVERED"] == counts["delivered"]
        assert sum(by_status.values()) == 400
    sms = told["sms"]
    assert sms["campaign"]["counts"]["opted_out"] >= sms["estimate"]["suppressed"] > 0
    assert told["email"]["campaign"]["counts"]["failed"] > 0


async def test_for_people_it_says_what_it_does() -> None:
    code, out, err = await demo("--contacts", "60", "--seed", "3")
    assert code == 0, err
    for step in ("Replies", "Create", "Upload", "Import", "Estimate", "Preview", "Run", "Result"):
        assert f"\n{step} " in out
    assert out.count("\nResult ") == 2
    assert "Every message is accounted for" in out
    assert "Timers shortened" in err
    assert "of 60 final" in err
    assert "Traceback" not in err
