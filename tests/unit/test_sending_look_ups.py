"""What look-ups leave to others: while a provider does not answer, and at the end of a sender."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending import look_ups
from outreach.sending.look_ups import ATTEMPTS_MAX, CONCURRENCY_MAX, UNANSWERED_MAX, LookUps
from outreach.sending.outcomes import AttemptOutcome
from outreach.vocabulary import Outcome
from tests.waiting import eventually


class Peers:
    """All that look-ups talk to. `answers`: whether the provider says anything; `hold`: when."""

    def __init__(self) -> None:
        self.leases = 0
        self.asked: list[int] = []
        self.told: list[int] = []
        self.answers = True
        self.hold = asyncio.Event()
        self.hold.set()

    async def look_up(self, *args: Any, **options: Any) -> Any:
        """The stream's for a lease; the provider's for an attempt."""
        if options:
            return self._lease(options["limit"])
        attempt = args[1]
        self.asked.append(attempt.message.number)
        await self.hold.wait()
        if not self.answers:
            return None
        return AttemptOutcome(attempt.message.number, attempt.message.attempt, Outcome.NOT_FOUND)

    def _lease(self, limit: int) -> delivery_pb2.LookUpResult:
        self.leases += 1
        result = delivery_pb2.LookUpResult()
        for number in range(1, limit + 1):
            message = delivery_pb2.ClaimedMessage(number=number, recipient=f"+4179{number:07}")
            result.attempts.append(delivery_pb2.UnknownAttempt(message=message))
        return result

    async def get(self, *_: object, **__: object) -> None:
        """A campaign, made ready."""

    def submit(self, _: str, outcomes: Sequence[AttemptOutcome], *, journaled: bool) -> int:
        """Report them."""
        assert not journaled
        self.told += [outcome.number for outcome in outcomes]
        return 1

    async def acked_through(self, _: int) -> None:
        """At once."""


def look_ups_of(peers: Peers) -> LookUps[None]:
    some = cast("Any", peers)
    return LookUps(some, some, some, some)


async def test_a_provider_that_does_not_answer_is_not_asked_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their turns are those of other organisations too, and each look-up may wait for its time limit."""
    monkeypatch.setattr(look_ups, "PAUSES_SECONDS", (0.0, 0.0))
    peers = Peers()
    peers.answers = False
    await look_ups_of(peers).run(uuid4(), "a campaign")
    assert len(set(peers.asked)) < UNANSWERED_MAX + CONCURRENCY_MAX < ATTEMPTS_MAX
    assert peers.leases == 1
    assert not peers.told


async def test_a_sender_that_ends_looks_up_nothing_more() -> None:
    """What is left of thousands would take longer than it has for its end."""
    peers = Peers()
    peers.hold.clear()
    looking_up = look_ups_of(peers)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(looking_up.run(uuid4(), "a campaign"))
        await eventually(lambda: len(peers.asked) == CONCURRENCY_MAX, 60, "asked")
        looking_up.drain()
        peers.hold.set()
    assert len(peers.asked) == CONCURRENCY_MAX
    assert sorted(peers.told) == sorted(peers.asked), "what was answered is reported"
    assert peers.leases == 1
