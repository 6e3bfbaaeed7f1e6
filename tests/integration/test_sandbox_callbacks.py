"""Status callbacks of the sandbox, taken by a real receiver, and the knobs that spoil them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest

from services.sandbox.fates import fate_of
from tests.sandbox_parts import Bench, Received, sandbox_bench
from tests.waiting import eventually

TO = "+15125550001"


async def test_callbacks_are_signed_and_tell_the_steps() -> None:
    async with sandbox_bench() as bench:
        message = await bench.send(TO, "attempt-1")
        await bench.settle()
        received = bench.receiver.received
        assert sorted(bench.receiver.statuses("attempt-1")) == [
            "delivered", "queued", "sending", "sent",
        ]  # fmt: skip
        for one in received:
            assert one.is_signed_with(bench.settings.auth_token)
            assert not one.is_signed_with("another token")
            assert one.url == f"{bench.receiver.url}/status/attempt-1"
            form = one.form
            assert form["MessageSid"] == form["SmsSid"] == message.sid
            assert form["MessageStatus"] == form["SmsStatus"]
            assert form["MessagingServiceSid"] == bench.settings.messaging_service_sid
            assert (form["To"], form["From"]) == (TO, bench.settings.sender_numbers[0])
            assert form["AccountSid"] == bench.settings.account_sid
            assert form["ApiVersion"] == "2010-04-01"
            assert ("RawDlrDoneDate" in form) is (form["MessageStatus"] == "delivered")
            assert "ErrorCode" not in form
        assert len({one.token for one in received}) == 4
        ledger = await bench.ledger()
        assert ledger["callbacks"] == {"made": 4, "answered": 4}
        assert ledger["by_final_status"] == {"delivered": 1}


async def test_a_plain_sender_has_no_queued_callback() -> None:
    async with sandbox_bench(callback_statuses=["queued", "sent"]) as bench:
        await bench.twilio.messages.create_async(
            to=TO, from_="+15005550006", body="x", status_callback=f"{bench.receiver.url}/s/a"
        )
        await bench.settle()
        assert sorted(bench.receiver.statuses("a")) == ["delivered", "sent"]
        assert "MessagingServiceSid" not in bench.receiver.received[0].form


@pytest.mark.parametrize(
    ("code", "statuses"),
    [
        (30003, ["queued", "sending", "sent", "undelivered"]),
        (30001, ["failed", "queued"]),
    ],
)
async def test_failures_carry_their_code(code: int, statuses: list[str]) -> None:
    async with sandbox_bench(failed_codes={code: 1}) as bench:
        await bench.send(TO, "a")
        await bench.settle()
        assert sorted(bench.receiver.statuses("a")) == statuses
        codes = {
            one.form["MessageStatus"]: one.form.get("ErrorCode") for one in bench.receiver.received
        }
        assert {status for status, value in codes.items() if value} == {
            "failed" if code == 30001 else "undelivered"
        }
        assert str(code) in codes.values()
        assert (await bench.ledger())["by_error_code"] == {str(code): 1}


async def test_no_receipt_lost_and_disabled_callbacks() -> None:
    async with sandbox_bench(no_receipt_share=1) as bench:
        await bench.send(TO, "a")
        await bench.settle()
        assert sorted(bench.receiver.statuses("a")) == ["queued", "sending", "sent"]
        assert (await bench.ledger())["by_final_status"] == {"sent": 1}

        await bench.own("PUT", "/sandbox/knobs", {"callback_lost_share": 1})
        await bench.send(TO, "b")
        await bench.own("PUT", "/sandbox/knobs", {"callbacks_enabled": False})
        await bench.send(TO, "c")
        await bench.settle()
        assert bench.receiver.statuses("b") == bench.receiver.statuses("c") == []
        assert (await bench.ledger())["by_final_status"] == {"sent": 1, "delivered": 2}


async def test_a_share_of_the_callbacks_is_lost_as_the_fates_say() -> None:
    async with sandbox_bench(callback_lost_share=0.3) as bench:
        numbers = [f"+1512555{number:04d}" for number in range(60)]
        await asyncio.gather(*(bench.send(to, to[1:]) for to in numbers))
        await bench.settle()
        knobs = bench.sandbox.knobs.knobs
        for to in numbers:
            told = "delivered" in bench.receiver.statuses(to[1:])
            assert told is (fate_of(knobs, "test", to).receipt == "delivered")
        assert 0 < sum("delivered" in bench.receiver.statuses(to[1:]) for to in numbers) < 60


async def test_duplicated_callbacks_come_twice() -> None:
    async with sandbox_bench(callback_duplicated_share=1) as bench:
        await bench.send(TO, "a")
        await bench.settle()
        statuses = bench.receiver.statuses("a")
        assert sorted(statuses) == sorted(["queued", "sending", "sent", "delivered"] * 2)
        assert len({one.token for one in bench.receiver.received}) == 4


async def test_reordered_callbacks_start_with_the_final_status() -> None:
    async with sandbox_bench(
        one_by_one=True,
        callback_reordered_share=1,
        callback_delay_ms_min=400,
        callback_delay_ms_max=400,
    ) as bench:
        await bench.send(TO, "a")
        await bench.settle()
        assert bench.receiver.statuses("a") == ["delivered", "sent", "sending", "queued"]


async def test_early_callbacks_come_before_the_answer() -> None:
    async with sandbox_bench(
        callback_early_share=1, callback_delay_ms_min=5_000, callback_delay_ms_max=5_000
    ) as bench:
        message = await bench.send(TO, "a")
        assert bench.receiver.statuses("a") == ["queued", "sending", "sent", "delivered"]
        assert message.status == "accepted"
        fetched = await bench.twilio.messages(message.sid).fetch_async()
        assert fetched.status == "delivered"


async def test_delays_are_kept() -> None:
    async with sandbox_bench(
        one_by_one=True, callback_delay_ms_min=300, callback_delay_ms_max=300
    ) as bench:
        loop = asyncio.get_running_loop()
        times: dict[str, float] = {}

        def note(one: Received) -> int:
            times[one.form["MessageStatus"]] = loop.time()
            return 204

        bench.receiver.answer = note
        began = loop.time()
        await bench.send(TO, "a")
        await bench.settle()
        assert times["delivered"] - began >= 0.29
        assert list(times) == ["queued", "sending", "sent", "delivered"]


async def _fail_first(bench: Bench, times: int, status: int | None) -> None:
    left = dict.fromkeys(("queued", "sending", "sent", "delivered"), times)

    def answer(one: Received) -> int | None:
        step = one.form["MessageStatus"]
        left[step] -= 1
        return status if left[step] >= 0 else 200

    bench.receiver.answer = answer


@pytest.mark.parametrize("status", [500, 404, None])
async def test_failed_callbacks_are_retried_with_the_same_token(status: int | None) -> None:
    async with sandbox_bench() as bench:
        await _fail_first(bench, 3, status)
        await bench.send(TO, "a")
        await bench.settle()
        tokens: dict[str, list[str]] = {}
        for one in bench.receiver.received:
            tokens.setdefault(one.form["MessageStatus"], []).append(one.token)
        assert [len(one) for one in tokens.values()] == [4, 4, 4, 4]
        assert all(len(set(one)) == 1 for one in tokens.values())
        ledger = await bench.ledger()
        assert ledger["callbacks"] == {"made": 16, "retried": 12, "answered": 4}


async def test_by_default_an_error_is_not_retried_but_a_refused_connection_is_once() -> None:
    async with sandbox_bench() as bench:
        await _fail_first(bench, 99, 500)
        url = f"{bench.receiver.url}/status/a"
        await bench.send(TO, status_callback=url)
        await bench.settle()
        assert len(bench.receiver.received) == 4
        await bench.send(TO, status_callback="http://127.0.0.1:1/status/b")
        await bench.settle()
        counts = (await bench.ledger())["callbacks"]
        assert counts == {"made": 4 + 8, "retried": 4, "given_up": 8}


async def test_a_receiver_that_comes_up_late_gets_all_callbacks() -> None:
    async with sandbox_bench(callback_retry_seconds=10) as bench:
        alive = asyncio.Event()
        bench.receiver.answer = lambda _: 200 if alive.is_set() else None
        await asyncio.gather(*(bench.send(f"+1512555{n:04d}", f"a{n}") for n in range(20)))
        await eventually(lambda: len(bench.receiver.received) >= 40)
        alive.set()
        await bench.settle()
        counts = (await bench.ledger())["callbacks"]
        assert counts["answered"] == 80
        assert "given_up" not in counts


class _RawReceiver(asyncio.Protocol):
    def __init__(self, answer: bytes, opened: list[asyncio.Transport]) -> None:
        self._answer = answer
        self._opened = opened
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._opened.append(self._transport)

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, _, body = self._request.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) == length and self._answer:
            self._request = b""
            self._transport.write(self._answer[:9])
            self._transport.write(self._answer[9:])
            if self._answer.startswith(b"HTTP/1.0"):
                self._transport.close()


@contextlib.asynccontextmanager
async def _raw_receiver(answer: bytes) -> AsyncIterator[str]:
    """Answers every request with these bytes; with none, never."""
    opened: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: _RawReceiver(answer, opened), "127.0.0.1", 0
    )
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for transport in opened:
            transport.abort()


async def test_a_receiver_that_never_answers_is_given_up() -> None:
    async with sandbox_bench(callback_statuses=[]) as bench:
        async with _raw_receiver(b"") as url:
            await bench.send(TO, status_callback=f"{url}/status/a#rc=1&rp=rt&rt=100")
            await bench.settle()
        counts = (await bench.ledger())["callbacks"]
        assert counts == {"made": 2, "retried": 1, "given_up": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_any_shape_of_answer_is_understood(answer: bytes) -> None:
    async with sandbox_bench() as bench, _raw_receiver(answer) as url:
        for _ in range(2):
            await bench.send(TO, status_callback=f"{url}/status/a#rc=0")
        await bench.settle()
        assert (await bench.ledger())["callbacks"] == {"made": 8, "answered": 8}
