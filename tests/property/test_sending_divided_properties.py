"""Whatever the provider refuses, and however it says so: each message of a claim gets exactly one
outcome, and whoever is accepted is accepted once.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import Journal, read_journal
from outreach.sending.outcomes import Answer, AttemptOutcome, Divided, NotSent
from outreach.sending.provider import WindowOver
from outreach.sending.slots import Claim, Slots
from outreach.vocabulary import Outcome
from services.sender_email.answers import Asked, read_answer
from services.sender_email.limits import distinct, fitting
from tests.sendgrid_parts import answer, message
from tests.unit.test_sending_divided import Messages, ScriptedProvider, numbers
from tests.waiting import eventually

CAMPAIGN = uuid4()
NOW = datetime(2026, 11, 26, tzinfo=UTC)


@dataclass(frozen=True)
class Recipient:
    """`fate`: what SendGrid does with a request that has it. `is_large`: it has to go alone."""

    address: int
    fate: str
    is_large: bool


recipients = st.lists(
    st.builds(
        Recipient,
        address=st.integers(1, 12),
        fate=st.sampled_from(["good", "good", "good", "named", "unnamed"]),
        is_large=st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=25,
)


class StrictProvider(ScriptedProvider):
    """Divides as the adapter does, and answers as SendGrid does."""

    def __init__(self, given: Sequence[Recipient], *, too_many: int, not_sent: int) -> None:
        super().__init__()
        self.given = given
        self.too_many = too_many
        self.not_sent = not_sent
        self.accepted: Counter[int] = Counter()

    async def send(self, prepared: None, messages: Messages, begin: Callable[[], None]) -> Answer:
        await asyncio.sleep(0)
        for divide in (distinct, self._fitting):
            parts = divide(messages)
            if len(parts) > 1:
                return Divided([], parts)
        try:
            begin()
        except WindowOver:
            return NotSent("WindowOver")
        if self.not_sent:
            self.not_sent -= 1
            return NotSent("ClientOSError")
        return self._answer(messages)

    def _fitting(self, messages: Messages) -> list[Messages]:
        made = [None if self._of(one).is_large else b"x" for one in messages]
        return fitting(messages, made, shared_bytes=100)

    def _of(self, one: delivery_pb2.ClaimedMessage) -> Recipient:
        return self.given[one.number - 1]

    def _answer(self, messages: Messages) -> Answer:
        addresses = [one.recipient.lower() for one in messages]
        assert len(set(addresses)) == len(addresses)
        fates = [self._of(one).fate for one in messages]
        named = [f"personalizations.{at}.to.0.email" for at, f in enumerate(fates) if f == "named"]
        asked = Asked(messages, is_rendered=self._of(messages[0]).is_large)
        if len(messages) > self.too_many:
            given = answer(413)
        elif named:
            given = answer(400, *named)
        elif "unnamed" in fates:
            given = answer(400, None)
        else:
            self.accepted.update(numbers(messages))
            given = answer(202, X_Message_Id="id")
        return read_answer(asked, given, now=NOW)


@settings(deadline=None, max_examples=100)
@given(
    recipients,
    st.integers(1, 30),
    st.integers(0, 1),
    st.integers(1, 3),
    st.integers(1, 25),
)
def test_every_message_gets_exactly_one_outcome(
    given: list[Recipient], too_many: int, not_sent: int, concurrency: int, claim_size: int
) -> None:
    provider = StrictProvider(given, too_many=too_many, not_sent=not_sent)
    outcomes: dict[int, Outcome] = {}

    def settle(learned: Sequence[AttemptOutcome]) -> None:
        for outcome in learned:
            assert outcome.number not in outcomes, "settled once"
            outcomes[outcome.number] = outcome.outcome

    async def run(directory: Path) -> set[int]:
        journal = Journal(directory)
        index = journal.open_instance(uuid4())
        slots = Slots(provider, journal, slots_max=concurrency, concurrency_start=concurrency)
        running = asyncio.create_task(slots.run())
        claim = Claim(
            campaign_id=CAMPAIGN.bytes,
            instance_index=index,
            prepared=None,
            deadline_seconds=time.monotonic() + 60,
            settle=settle,
            refuse=lambda refusal: None,
            is_over=lambda: False,
        )
        messages = [
            message(number, recipient=f"Person{one.address}@example.org")
            for number, one in enumerate(given, 1)
        ]
        lane = slots.lane(UUID(int=1))
        for start in range(0, len(messages), claim_size):
            slots.submit(lane, claim, messages[start : start + claim_size])
        await eventually(lambda: len(outcomes) == len(given), 60, "all settled")
        running.cancel()
        await asyncio.wait({running})
        begun = {number for _, number, _ in read_journal(journal.path.read_bytes()).begun}
        journal.close()
        return begun

    with tempfile.TemporaryDirectory() as name:
        begun = asyncio.run(run(Path(name)))
    good = {number for number, one in enumerate(given, 1) if one.fate == "good"}
    assert {n for n, what in outcomes.items() if what is Outcome.ACCEPTED} == good
    assert {n for n, what in outcomes.items() if what is Outcome.REJECTED} == {
        *range(1, len(given) + 1)
    } - good
    assert provider.accepted == Counter(good), "nobody twice"
    assert begun >= good
