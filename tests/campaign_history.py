"""A campaign through all processes, and its history held against what the sandbox was told to do.

The end of every message follows from the sandbox's knobs, its seed and the recipient alone
(`services.sandbox.fates`), so it can be said before the run, and whatever is killed on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outreach.client import OutreachClient
from outreach.failures.twilio import Effect, rule_for
from outreach.local.sandbox_client import SandboxClient
from outreach.v1.campaign_pb2 import (
    CAMPAIGN_STATUS_COMPLETE,
    CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
    CAMPAIGN_STATUS_FAILED,
    CAMPAIGN_STATUS_READY,
    Campaign,
    SmsContent,
    StatusCounts,
)
from outreach.v1.message_pb2 import Message
from outreach.vocabulary import FailureReason, MessageStatus
from services.sandbox.fates import Fate, Fates
from services.sandbox.knobs import Knobs
from tests.waiting import eventually

SEED = "history"
#: A guard against a hang: on a quiet machine a run takes seconds.
END_SECONDS_MAX = 600.0
#: The last receipts are on their way through the inbox for so long at most.
EQUAL_SECONDS_MAX = 120.0

#: Timers so short that a run takes seconds; longer than the longest way of a callback, and long
#: enough for look-ups that the sandbox throttles while sends take all of its concurrency, also on a
#: machine that is ten times slower: what they settle nobody may correct later.
SHORT_TIMERS = {
    "OUTREACH_ASSUMED_DELIVERED_AFTER_SECONDS": "15",
    "OUTREACH_LOOK_UP_AFTER_SECONDS": "1",
    "OUTREACH_UNCONFIRMED_AFTER_SECONDS": "30",
    "OUTREACH_REDISPATCH_AFTER_SECONDS": "1",
}

_FINAL = {CAMPAIGN_STATUS_COMPLETE, CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS, CAMPAIGN_STATUS_FAILED}
_DIFFERENCES_SHOWN_MAX = 10


class End(NamedTuple):
    """How a message ends: what ListMessages says of it."""

    status: MessageStatus
    failure_reason: FailureReason | None = None
    provider_code: str = ""


UNCONFIRMED = End(MessageStatus.FAILED, FailureReason.UNCONFIRMED)


class Expected(NamedTuple):
    """How a message must end, and whether the provider accepts it."""

    end: End
    accepted: bool


def expected_of(fate: Fate) -> Expected:
    """What must become of a recipient with this fate who has not opted out with us.

    Whatever callbacks get lost: attempts in doubt and receipts that never come are looked up.
    """
    fault = fate.transport_fault
    if fate.rejected_code is not None:
        return Expected(_by_code(fate.rejected_code), accepted=False)
    if fault is not None and not fault.accepts and fault.value != "http_429":
        # The request left us in full, so it may have been accepted; nobody will ever say.
        return Expected(UNCONFIRMED, accepted=False)
    # A receipt that never came is looked up.
    return Expected(_by_final_status(fate), accepted=True)


def _by_final_status(fate: Fate) -> End:
    if fate.final_status == "delivered":
        return End(MessageStatus.DELIVERED)
    if fate.final_status == "sent":
        return End(MessageStatus.ASSUMED_DELIVERED)
    return _by_code(fate.error_code)


def _by_code(code: int) -> End:
    rule = rule_for(str(code))
    if rule.effect is Effect.OPT_OUT:
        return End(MessageStatus.OPTED_OUT, None, str(code))
    return End(MessageStatus.FAILED, rule.reason, str(code))


def end_of(message: Message) -> End:
    """How the message ended."""
    reason = FailureReason(message.failure_reason) if message.failure_reason else None
    return End(MessageStatus(message.status), reason, message.provider_code)


def recipients(area_code: int, count: int) -> tuple[str, ...]:
    """Different recipients of one area; tests on one stack take an area each."""
    assert 200 <= area_code <= 999
    assert count <= 9_900
    return tuple(f"+1{area_code}555{line:04}" for line in range(100, 100 + count))


def counts_of(counts: StatusCounts) -> dict[str, int]:
    """The counts that are not 0, by status, without the total; they add up to it."""
    named = {name.name: getattr(counts, name.name) for name in counts.DESCRIPTOR.fields}
    total = named.pop("total")
    assert sum(named.values()) == total, f"counts do not add up: {named}, total {total}"
    return {name: number for name, number in named.items() if number}


@dataclass
class History:
    """One campaign on a stack: made, run, and its end compared with what must have come.

    Args:
        client: of the stack.
        sandbox: of the stack; its ledger is emptied, its knobs are set.
        knobs: for this campaign.
        recipients: in the order of the file.
        stopped: those of them that have opted out with us before.
        in_doubt_max: how many messages may end UNCONFIRMED because a process died between the
            beginning of the request and the provider's acceptance; such a message is in no ledger.
        refusals_lost_max: how many may end UNCONFIRMED because the provider's refusal was on its
            way to a process that died; no look-up finds what was refused.
    """

    client: OutreachClient
    sandbox: SandboxClient
    knobs: Knobs
    recipients: Sequence[str]
    stopped: frozenset[str] = frozenset()
    in_doubt_max: int = 0
    refusals_lost_max: int = 0
    campaign_id: str = field(init=False)

    @property
    def total(self) -> int:
        return len(self.recipients)

    async def prepare(self) -> None:
        """Everything up to READY."""
        await self.sandbox.reset_ledger()
        await self.sandbox.set_knobs(self.knobs.model_dump(mode="json"))
        campaign = await self.client.create_campaign(
            name="History", sms=SmsContent(body="Hi {{name}}, see you soon. STOP to opt out.")
        )
        self.campaign_id = campaign.id
        rows = "".join(f"{to},Person {n}\r\n" for n, to in enumerate(self.recipients, 1))
        upload = await self.client.upload_contacts(
            campaign.id, f"phone,name\r\n{rows}".encode(), consent_confirmed=True
        )
        result = await self.client.import_contacts(campaign.id, upload.id)
        assert result.campaign.contacts.imported == self.total
        assert result.campaign.status == CAMPAIGN_STATUS_READY

    async def run(self) -> None:
        """Start it."""
        disclaimer = await self.client.get_disclaimer()
        await self.client.run_campaign(
            self.campaign_id, accepted_disclaimer_version=disclaimer.version
        )

    async def accepted(self) -> int:
        """How many messages the provider has accepted so far."""
        return int((await self.sandbox.ledger())["accepted"])

    async def in_the_middle(self, share: float = 1 / 3) -> None:
        """Wait until the provider has accepted this share; much of the rest is still to come."""

        async def reached() -> bool:
            return await self.accepted() >= self.total * share

        await eventually(reached, END_SECONDS_MAX, f"{share:.0%} accepted")
        assert await self.accepted() < self.total * (share + 4) / 5, "too late to be a fault"

    async def end(self) -> Campaign:
        """Wait until the campaign is final and every message has the end that its fate says.

        Receipts may come after the campaign is final; a wrong end stays and is told.
        """

        async def final() -> Campaign | None:
            campaign = await self.client.get_campaign(self.campaign_id)
            return campaign if campaign.status in _FINAL else None

        await eventually(final, END_SECONDS_MAX, "the campaign is final")
        await eventually(self._callbacks_made, END_SECONDS_MAX, "all callbacks are made")
        differences = await self._differences()
        if differences:  # the last receipts are on their way through the inbox, perhaps
            differences = await self._still_different()
        assert not differences, "\n".join(differences[:_DIFFERENCES_SHOWN_MAX])
        campaign = await self.client.get_campaign(self.campaign_id)
        await self._hold_counts(campaign)
        return campaign

    async def _callbacks_made(self) -> bool:
        return not (await self.sandbox.ledger())["messages_with_pending_callbacks"]

    async def _still_different(self) -> list[str]:
        seen: list[str] = []

        async def equal() -> bool:
            seen[:] = await self._differences()
            return not seen

        try:
            await eventually(equal, EQUAL_SECONDS_MAX)
        except AssertionError:
            return seen
        return []

    def expected(self) -> dict[str, Expected]:
        """By recipient."""
        fates = Fates(self.knobs, SEED)
        by_fate = {to: expected_of(fates.of(to)) for to in self.recipients}
        suppressed = Expected(End(MessageStatus.OPTED_OUT), accepted=False)
        return {**by_fate, **dict.fromkeys(self.stopped, suppressed)}

    async def messages(self) -> list[Message]:
        """All messages of the campaign."""
        return [message async for message in self.client.all_messages(self.campaign_id)]

    async def _differences(self) -> list[str]:
        messages = await self.messages()
        rows = [row async for row in self.sandbox.ledger_messages()]
        return [
            *_sent_wrongly(rows, self.recipients),
            *self._ended_wrongly(messages, rows),
        ]

    def _ended_wrongly(
        self, messages: Sequence[Message], rows: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        expected = self.expected()
        sid_by_recipient = {row["to"]: row["sid"] for row in rows}
        wrong = []
        in_doubt = {True: 0, False: 0}
        if [message.number for message in messages] != [*range(1, self.total + 1)]:
            wrong.append("the messages are not numbered 1 to N")
        for message in messages:
            must, end = expected[message.recipient], end_of(message)
            sid = sid_by_recipient.get(message.recipient, "")
            if end == must.end and bool(sid) == must.accepted:
                if message.provider_message_id != sid:
                    wrong.append(f"message {message.number} has another SID than the ledger")
            elif not sid and end == UNCONFIRMED:
                in_doubt[must.accepted] += 1
            else:
                wrong.append(
                    f"message {message.number}, in the ledger as {sid!r}: {end}, not {must}"
                )
        if in_doubt[True] > self.in_doubt_max:
            wrong.append(f"{in_doubt[True]} were not sent, {self.in_doubt_max} may")
        if in_doubt[False] > self.refusals_lost_max:
            wrong.append(f"{in_doubt[False]} refusals were lost, {self.refusals_lost_max} may")
        return wrong

    async def _hold_counts(self, campaign: Campaign) -> None:
        """The campaign's own counts are those of its messages."""
        ends = Counter(end_of(message).status.name.lower() for message in await self.messages())
        assert counts_of(campaign.counts) == ends
        assert campaign.counts.total == self.total
        failed = ends["failed"] > 0
        wanted = CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS if failed else CAMPAIGN_STATUS_COMPLETE
        assert campaign.status == wanted


def _sent_wrongly(rows: Sequence[Mapping[str, Any]], known: Iterable[str]) -> list[str]:
    """Each attempt and each recipient at most once, and nobody else."""
    to = Counter(row["to"] for row in rows)
    attempts = Counter(row["attempt"] for row in rows)
    wrong = [f"{number} accepted {n} times" for number, n in to.items() if n > 1]
    wrong += [f"an attempt accepted {n} times" for n in attempts.values() if n > 1]
    wrong += [f"{number} is not of this campaign" for number in to.keys() - set(known)]
    return wrong
