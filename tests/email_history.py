"""An email campaign through all processes, and its history held against what the sandbox was told
to do: `tests.campaign_history` for the other channel.

What becomes of an address follows from the knobs, the seed and the address alone. Not so the faults
of a request, which hit all that are in it: here only such may be set after which events say what
became of everyone (accepted all the same), or after which the same request is tried again (429).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outreach.client import OutreachClient
from outreach.local.example_email import SENDER_ADDRESS
from outreach.local.sandbox_client import SandboxClient
from outreach.v1.campaign_pb2 import (
    CAMPAIGN_STATUS_ACTIVE_RETRIES,
    CAMPAIGN_STATUS_COMPLETE,
    CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
    CAMPAIGN_STATUS_FAILED,
    CAMPAIGN_STATUS_READY,
    Campaign,
    EmailAddress,
    EmailContent,
)
from outreach.v1.channel_pb2 import CHANNEL_EMAIL
from outreach.v1.message_pb2 import Message
from outreach.vocabulary import FailureReason, MessageStatus
from services.sandbox.sendgrid.events import EXPIRED, REFUSALS
from services.sandbox.sendgrid.fates import EmailFate, EmailFates, Outcome
from services.sandbox.sendgrid.knobs import EmailKnobs
from services.sender_email.reasons import event_outcome
from tests.campaign_history import (
    END_SECONDS_MAX,
    EQUAL_SECONDS_MAX,
    SEED,
    UNCONFIRMED,
    End,
    Expected,
    counts_of,
    end_of,
)
from tests.waiting import eventually

_FINAL = {CAMPAIGN_STATUS_COMPLETE, CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS, CAMPAIGN_STATUS_FAILED}
_DIFFERENCES_SHOWN_MAX = 10
_DELIVERED = {Outcome.DELIVERED, Outcome.DEFERRED_THEN_DELIVERED}

HTML = (
    "<h1>Hello {{name|there}}</h1><p>News from <b>{{city}}</b>.</p>"
    '<p><a href="https://www.example.com/?q={{city}}">More</a></p>'
    '<p><a href="{{unsubscribe_url}}">Unsubscribe</a></p>'
)


def email_content(html: str = HTML) -> EmailContent:
    """A valid email with `name` and `city`."""
    content = EmailContent(subject="News for {{name|you}}", html=html)
    getattr(content, "from").CopyFrom(EmailAddress(address=SENDER_ADDRESS, display_name="News"))
    return content


def addresses(label: str, count: int) -> tuple[str, ...]:
    """Different addresses; tests on one stack take a label each."""
    return tuple(f"{label}.{number}@example.org" for number in range(1, count + 1))


def expected_of(fate: EmailFate) -> Expected:
    """What must become of a recipient with this fate."""
    if fate.rejection == "named":
        return Expected(
            End(MessageStatus.FAILED, FailureReason.INVALID_RECIPIENT, ""), accepted=False
        )
    if fate.rejection == "unnamed":
        return Expected(
            End(MessageStatus.FAILED, FailureReason.CONTENT_REJECTED, ""), accepted=False
        )
    if fate.outcome in _DELIVERED:
        return Expected(End(MessageStatus.DELIVERED), accepted=True)
    if fate.final_event == "processed":
        return Expected(End(MessageStatus.FAILED, FailureReason.UNCONFIRMED), accepted=True)
    if fate.final_event == "deferred":
        return Expected(End(MessageStatus.FAILED, FailureReason.TIMED_OUT), accepted=True)
    outcome = event_outcome(_final_event(fate))
    assert outcome is not None
    status = MessageStatus.OPTED_OUT if outcome[0].name == "OPTED_OUT" else MessageStatus.FAILED
    return Expected(End(status, outcome[1], outcome[2]), accepted=True)


def _final_event(fate: EmailFate) -> dict[str, object]:
    """The event that decides, as the sandbox posts it."""
    if fate.outcome is Outcome.DROPPED:
        return {"event": "dropped", "reason": fate.detail, "status": "5.0.0"}
    expired = fate.outcome is Outcome.DEFERRED_FOR_EVER
    said = EXPIRED if expired else REFUSALS[fate.detail]
    event: dict[str, object] = {
        "event": "bounce",
        "bounce_classification": fate.detail,
        "reason": said.reason,
        "type": "blocked" if expired or fate.outcome is Outcome.BLOCKED else "bounce",
    }
    return event if said.status is None else {**event, "status": said.status}


@dataclass
class EmailHistory:
    """One email campaign on a stack: made, run, and its end compared with what must have come.

    Args:
        client: of the stack.
        sandbox: of the stack; its email ledger is emptied and its email knobs are set, unless
            `shares_ledger`.
        knobs: for this campaign.
        recipients: in the order of the file.
        suppressed: those of them that have opted out with us before.
        in_doubt_max: how many messages may end UNCONFIRMED because a process died between the
            beginning of the request and the provider's acceptance; such a message is in no ledger.
        shares_ledger: another campaign's emails are in the ledger too, and stay.
    """

    client: OutreachClient
    sandbox: SandboxClient
    knobs: EmailKnobs
    recipients: Sequence[str]
    suppressed: frozenset[str] = frozenset()
    in_doubt_max: int = 0
    shares_ledger: bool = False
    content: EmailContent = field(default_factory=email_content)
    campaign_id: str = field(init=False)

    @property
    def total(self) -> int:
        return len(self.recipients)

    async def prepare(self) -> None:
        """Everything up to READY."""
        if not self.shares_ledger:
            await self.sandbox.reset_email_ledger()
            await self.sandbox.change_knobs({"email": self.knobs.model_dump(mode="json")})
        campaign = await self.client.create_campaign(
            name="Email history", channel=CHANNEL_EMAIL, email=self.content
        )
        self.campaign_id = campaign.id
        rows = "".join(f"{to},Person {n},City {n}\r\n" for n, to in enumerate(self.recipients, 1))
        upload = await self.client.upload_contacts(
            campaign.id, f"email,name,city\r\n{rows}".encode(), consent_confirmed=True
        )
        result = await self.client.import_contacts(campaign.id, upload.id)
        assert result.campaign.contacts.imported == self.total
        assert result.campaign.status == CAMPAIGN_STATUS_READY, result.campaign.template_problems

    async def run(self) -> None:
        """Start it."""
        disclaimer = await self.client.get_disclaimer()
        await self.client.run_campaign(
            self.campaign_id, accepted_disclaimer_version=disclaimer.version
        )

    async def in_the_middle(self, share: float = 1 / 3) -> None:
        """Wait until the provider has accepted this share; the rest is still to come."""

        async def reached() -> bool:
            return int((await self.sandbox.email_ledger())["accepted"]) >= self.total * share

        await eventually(reached, END_SECONDS_MAX, f"{share:.0%} accepted")

    async def until(self, *statuses: int) -> Campaign:
        """Wait for one of these statuses."""

        seen: list[Campaign] = []

        async def there() -> bool:
            seen[:] = [await self.client.get_campaign(self.campaign_id)]
            return seen[0].status in statuses

        await eventually(there, END_SECONDS_MAX, "the campaign has the status")
        return seen[0]

    async def active_retries(self) -> Campaign:
        """Wait until only deferrals are left."""
        return await self.until(CAMPAIGN_STATUS_ACTIVE_RETRIES)

    async def end(self) -> Campaign:
        """Wait until the campaign is final and every message has the end that its fate says."""
        await self.until(*_FINAL)
        await eventually(self._events_made, END_SECONDS_MAX, "all events are made")
        seen: list[str] = []

        async def equal() -> bool:
            seen[:] = await self._differences()
            return not seen

        try:
            await eventually(
                equal, EQUAL_SECONDS_MAX
            )  # the last events are on their way through the inbox
        except AssertionError:
            raise AssertionError("\n".join(seen[:_DIFFERENCES_SHOWN_MAX])) from None
        campaign = await self.client.get_campaign(self.campaign_id)
        ends = Counter(end_of(message).status.name.lower() for message in await self.messages())
        assert counts_of(campaign.counts) == ends
        failed = ends["failed"] > 0
        wanted = CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS if failed else CAMPAIGN_STATUS_COMPLETE
        assert campaign.status == wanted
        return campaign

    async def _events_made(self) -> bool:
        return not (await self.sandbox.email_ledger())["emails_with_pending_events"]

    def fates(self) -> dict[str, EmailFate]:
        """By recipient."""
        fates = EmailFates(self.knobs, SEED)
        return {to: fates.of(to) for to in self.recipients}

    def expected(self) -> dict[str, Expected]:
        """By recipient."""
        by_fate = {to: expected_of(fate) for to, fate in self.fates().items()}
        suppressed = Expected(End(MessageStatus.OPTED_OUT), accepted=False)
        return {**by_fate, **dict.fromkeys(self.suppressed, suppressed)}

    async def messages(self) -> list[Message]:
        """All messages of the campaign."""
        return [message async for message in self.client.all_messages(self.campaign_id)]

    async def rows(self) -> list[dict[str, Any]]:
        """The ledger's emails to this campaign's recipients."""
        mine = set(self.recipients)
        found = [row async for row in self.sandbox.ledger_emails()]
        if not self.shares_ledger:
            return found
        return [row for row in found if row["email"] in mine]

    async def _differences(self) -> list[str]:
        rows = await self.rows()
        to = Counter(row["email"] for row in rows)
        attempts = Counter(row["attempt"] for row in rows)
        wrong = [f"{email} accepted {n} times" for email, n in to.items() if n > 1]
        wrong += [f"an attempt accepted {n} times" for n in attempts.values() if n > 1]
        if not self.shares_ledger:
            wrong += [
                f"{email} is not of this campaign" for email in to.keys() - {*self.recipients}
            ]
        return wrong + self._ended_wrongly(await self.messages(), set(to))

    def _ended_wrongly(self, messages: Sequence[Message], accepted: set[str]) -> list[str]:
        expected = self.expected()
        lacking = {to for to, fate in self.fates().items() if fate.fields_missing}
        wrong = []
        in_doubt = 0
        if [message.number for message in messages] != [*range(1, self.total + 1)]:
            wrong.append("the messages are not numbered 1 to N")
        for message in messages:
            to = message.recipient
            must, end = expected[to], end_of(message)
            same = end.status == must.end.status and (
                # What was not told of a bounce can't be known; a refusal's code is ours to choose.
                to in lacking or end.failure_reason == must.end.failure_reason or not must.accepted
            )
            if same and (to in accepted) == must.accepted:
                continue
            if to not in accepted and end == UNCONFIRMED:
                in_doubt += 1
                continue
            where = "in the ledger" if to in accepted else "not in the ledger"
            wrong.append(f"message {message.number}, {where}: {end}, not {must}")
        if in_doubt > self.in_doubt_max:
            wrong.append(f"{in_doubt} were not sent, {self.in_doubt_max} may")
        return wrong
