"""Knobs, fates and ledger of the sandbox over HTTP: each knob is shown to do its thing."""

import asyncio
import io
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException

from services.sandbox.fates import TransportFault, fate_of
from services.sandbox.knobs import Knobs
from tests.sandbox_parts import sandbox_bench

TO = "+15125550001"


async def test_knobs_are_read_replaced_and_patched() -> None:
    async with sandbox_bench() as bench:
        _, knobs = await bench.own("GET", "/sandbox/knobs")
        assert set(knobs) == set(Knobs.model_fields)
        status, knobs = await bench.own("PUT", "/sandbox/knobs", {"failed_codes": {"30003": 0.5}})
        assert (status, knobs["failed_codes"]) == (200, {"30003": 0.5})
        assert knobs["callback_retry_seconds"] == 15.0
        _, knobs = await bench.own("PATCH", "/sandbox/knobs", {"latency_ms": 3})
        assert (knobs["latency_ms"], knobs["failed_codes"]) == (3, {"30003": 0.5})
        for body, field in (
            ({"latency": 1}, "latency"),
            ({"no_receipt_share": 2}, "no_receipt_share"),
            ([], "(all)"),
        ):
            status, said = await bench.own("PUT", "/sandbox/knobs", body)
            assert (status, said["errors"][0]["field"]) == (400, field)
        status, said = await bench.own("PATCH", "/sandbox/knobs", {"no_receipt_share": 0.7})
        assert (status, "add up" in said["errors"][0]["problem"]) == (400, True)
        assert (await bench.own("GET", "/sandbox/knobs"))[1] == knobs


async def test_a_fate_can_be_asked_for() -> None:
    async with sandbox_bench(rejected_codes={21614: 1}) as bench:
        for query in ("to=%2B15125550001", "to=+15125550001"):
            status, fate = await bench.own("GET", f"/sandbox/fate?{query}")
            assert (status, fate["to"], fate["rejected_code"]) == (200, TO, 21614)
        assert (await bench.own("GET", "/sandbox/fate"))[0] == 400
        assert (await bench.own("GET", "/sandbox/nothing"))[0] == 404
        assert (await bench.own("PUT", "/sandbox/fate"))[0] == 405
        assert await bench.own("GET", "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize(("status", "code"), [(429, 20429), (500, 20500), (503, 20503)])
async def test_an_outage_answers_all_alike_and_accepts_nothing(status: int, code: int) -> None:
    async with sandbox_bench(unavailable_status=status) as bench:
        for _ in range(2):
            with pytest.raises(TwilioRestException) as refused:
                await bench.send(TO)
            assert (refused.value.status, refused.value.code) == (status, code)
        ledger = await bench.ledger()
        assert (ledger["accepted"], ledger["unavailable"]) == (0, 2)
        await bench.own("PATCH", "/sandbox/knobs", {"unavailable_status": 0})
        began = time.time()
        await bench.send(TO)
        _, page = await bench.own("GET", "/sandbox/ledger/messages")
        assert began <= page["messages"][0]["arrived"] <= time.time()


async def test_rejected_codes_hold_for_every_try() -> None:
    async with sandbox_bench(rejected_codes={21614: 1}) as bench:
        for _ in range(2):
            with pytest.raises(TwilioRestException) as refused:
                await bench.send(TO)
            assert (refused.value.status, refused.value.code) == (400, 21614)
        ledger = await bench.ledger()
        assert (ledger["accepted"], ledger["rejected_by_code"]) == (0, {"21614": 2})


@pytest.mark.parametrize(
    ("knob", "status", "code", "counted", "accepted"),
    [
        ("http_429_share", 429, 20429, "throttled", 0),
        ("http_500_before_accept_share", 500, 20500, "http_500_before_accept", 0),
        ("http_500_after_accept_share", 500, 20500, "http_500_after_accept", 1),
    ],
)
async def test_error_answers_hit_the_first_try_only(
    knob: str, status: int, code: int, counted: str, accepted: int
) -> None:
    async with sandbox_bench(**dict[str, Any]({knob: 1})) as bench:
        with pytest.raises(TwilioRestException) as refused:
            await bench.send(TO, "a")
        assert (refused.value.status, refused.value.code) == (status, code)
        ledger = await bench.ledger()
        assert (ledger["accepted"], ledger[counted]) == (accepted, 1)
        await bench.send(TO, "b")
        await bench.settle()
        assert (await bench.ledger())["accepted"] == accepted + 1
        assert ("delivered" in bench.receiver.statuses("a")) is bool(accepted)
        assert "delivered" in bench.receiver.statuses("b")


@pytest.mark.parametrize(
    ("knob", "counted", "accepted"),
    [
        ("drop_before_accept_share", "dropped_before_accept", 0),
        ("drop_after_accept_share", "dropped_after_accept", 1),
    ],
)
async def test_dropped_connections(knob: str, counted: str, accepted: int) -> None:
    async with sandbox_bench(**dict[str, Any]({knob: 1})) as bench:
        with pytest.raises(aiohttp.ClientConnectionError):
            await bench.send(TO, "a")
        ledger = await bench.ledger()
        assert (ledger["accepted"], ledger[counted]) == (accepted, 1)
        await bench.settle()
        assert ("delivered" in bench.receiver.statuses("a")) is bool(accepted)
        assert len(await bench.twilio.messages.list_async(to=TO)) == accepted
        await bench.send(TO, "a")
        ledger = await bench.ledger()
        assert ledger["accepted"] == accepted + 1
        assert ledger["attempts_accepted_more_than_once"] == accepted


async def test_above_the_concurrency_requests_are_throttled() -> None:
    async with sandbox_bench(concurrency_max=3, latency_ms=4_000) as bench:
        outcomes = await asyncio.gather(
            *(bench.send(f"+1512555{n:04d}") for n in range(8)), return_exceptions=True
        )
        refused = [one for one in outcomes if isinstance(one, TwilioRestException)]
        assert [(one.status, one.code) for one in refused] == [(429, 20429)] * 5
        ledger = await bench.ledger()
        assert (ledger["accepted"], ledger["throttled"]) == (3, 5)
        await bench.own("PATCH", "/sandbox/knobs", {"latency_ms": 0})
        for number in range(8):
            await bench.send(f"+1512555{number:04d}")
        assert (await bench.ledger())["accepted"] == 11


async def test_latency_is_kept() -> None:
    async with sandbox_bench(latency_ms=100, latency_jitter_ms=50) as bench:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await bench.send(TO)
        assert loop.time() - began >= 0.09
        assert float(bench.transport.headers["Twilio-Request-Duration"]) >= 0.09


async def test_the_list_lags_but_a_fetch_does_not() -> None:
    async with sandbox_bench(list_lag_seconds=3_600) as bench:
        message = await bench.send(TO)
        assert await bench.twilio.messages.list_async(to=TO) == []
        assert (await bench.twilio.messages(message.sid).fetch_async()).sid == message.sid
        await bench.own("PATCH", "/sandbox/knobs", {"list_lag_seconds": 0})
        assert len(await bench.twilio.messages.list_async(to=TO)) == 1


async def test_a_run_ends_as_the_fates_say_and_the_ledger_tells_it() -> None:
    async with sandbox_bench(
        rejected_codes={21610: 0.05, 21211: 0.05},
        failed_codes={30003: 0.1, 30001: 0.05},
        no_receipt_share=0.1,
        http_429_share=0.1,
        http_500_before_accept_share=0.05,
        callback_duplicated_share=0.2,
    ) as bench:
        numbers = [f"+1512555{number:04d}" for number in range(300)]

        async def send(to: str) -> None:
            for _ in range(2):
                try:
                    await bench.send(to, f"attempt-{to[1:]}")
                except TwilioRestException as error:
                    if error.status == 400:
                        return
                else:
                    return

        await asyncio.gather(*(send(to) for to in numbers))
        await bench.settle()
        knobs = bench.sandbox.knobs.knobs
        fates = {to: fate_of(knobs, "test", to) for to in numbers}
        accepted = {to: fate for to, fate in fates.items() if fate.rejected_code is None}
        ledger = await bench.ledger()
        assert ledger["accepted"] == ledger["distinct_recipients"] == len(accepted)
        assert ledger["distinct_attempts"] == len(accepted)
        assert ledger["attempts_accepted_more_than_once"] == 0
        assert ledger["by_final_status"] == Counter(f.final_status for f in accepted.values())
        assert ledger["rejected"] == len(numbers) - len(accepted)
        faults = Counter(fate.transport_fault for fate in fates.values())
        assert ledger["throttled"] == faults[TransportFault.HTTP_429]
        assert 0 < len(accepted) < 300

        rows: list[dict[str, Any]] = []
        after: int | None = -1
        while after is not None:
            _, page = await bench.own("GET", f"/sandbox/ledger/messages?after={after}&limit=77")
            rows += page["messages"]
            after = page["next_after"]
        assert {row["to"]: row["final_status"] for row in rows} == {
            to: fate.final_status for to, fate in accepted.items()
        }
        for row in rows:
            assert row["attempt"] == f"attempt-{row['to'][1:]}"
            assert row["error_code"] == (accepted[row["to"]].error_code or None)
            assert (row["accepted_count"], row["status"]) == (1, row["final_status"])
            receipts = set(bench.receiver.statuses(row["attempt"]))
            assert (row["final_status"] in receipts) is True
        _, recent = await bench.own("GET", "/sandbox/messages/recent")
        assert [row["number"] for row in recent["messages"]] == [
            row["number"] for row in rows[:-101:-1]
        ]
        assert recent["messages"][0]["body"] == "Hello"
        assert (await bench.own("GET", "/sandbox/ledger/messages?limit=0"))[0] == 400

        assert (await bench.own("DELETE", "/sandbox/ledger"))[0] == 200
        ledger = await bench.ledger()
        assert (ledger["accepted"], ledger["rejected"], ledger["callbacks"]) == (0, 0, {})


async def test_a_reset_forgets_callbacks_that_are_due() -> None:
    async with sandbox_bench(callback_delay_ms_min=200, callback_delay_ms_max=200) as bench:
        await bench.send(TO, "before")
        await bench.own("DELETE", "/sandbox/ledger")
        await bench.send(TO, "after")
        await bench.settle()
        assert "delivered" in bench.receiver.statuses("after")
        assert "delivered" not in bench.receiver.statuses("before")


async def test_a_huge_body_is_refused() -> None:
    async with sandbox_bench() as bench:
        async with bench.session.post(
            f"{bench.sandbox.url}/sandbox/knobs", data=io.BytesIO(b"x" * 3_000_000)
        ) as answer:
            assert answer.status == 413
        assert (await bench.post({f"Field{n}": "x" for n in range(200)}))[0] == 400
