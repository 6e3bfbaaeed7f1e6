"""Lists of messages: every filter and combination, pages that come back short, tokens of other filters."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from outreach.client import OutreachClient
from outreach.recipients import recipient_hash
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import Channel, FailureReason, MessageStatus
from services.campaign.store import messages as store
from tests.campaign_service import Service, Tenant, campaign_service, recipient, refused

CONTACTS = 60
LATEST_RUN = 2
S, R = MessageStatus, FailureReason


@dataclass
class Known:
    """What a message is, as the test put it there."""

    number: int
    recipient: str
    status: MessageStatus
    reason: FailureReason | None
    run: int


@dataclass
class Listed:
    """A campaign with messages of every status, and what is known of them."""

    service: Service
    tenant: Tenant
    campaign: campaign_pb2.Campaign
    messages: list[Known]

    async def page(
        self, token: str = "", size: int = 7, **where: Any
    ) -> message_pb2.ListMessagesResponse:
        request = message_pb2.ListMessagesRequest(
            campaign_id=self.campaign.id,
            page_size=size,
            page_token=token,
            filter=message_pb2.MessageFilter(**where),
        )
        answer: message_pb2.ListMessagesResponse = await self.tenant.call(
            self.tenant.messages.ListMessages, request
        )
        return answer

    async def every(self, size: int, **where: Any) -> tuple[list[int], int]:
        """All numbers that match, and over how many pages they came."""
        numbers: list[int] = []
        token, pages = "", 0
        while True:
            page = await self.page(token, size, **where)
            pages += 1
            assert len(page.messages) <= size
            numbers += [message.number for message in page.messages]
            token = page.next_page_token
            if not token:
                return numbers, pages

    def expected(self, **where: Any) -> list[int]:
        """The same by the test's own knowledge."""
        return [
            each.number
            for each in self.messages
            if (not where.get("statuses") or each.status in where["statuses"])
            and (not where.get("failure_reasons") or each.reason in where["failure_reasons"])
            and where.get("recipient", each.recipient) == each.recipient
            and where.get("recipient_contains", "").lower() in each.recipient.lower()
            and where.get("run", each.run) == each.run
        ]


@pytest.fixture
async def listed(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listed]:
    # Few rows a page are looked at, so that sixty messages are many.
    monkeypatch.setattr(store, "LOOKED_AT_MAX", 11)
    monkeypatch.setattr(store, "RECIPIENT_NUMBERS_MAX", 4)
    async with campaign_service(database_dsn) as service:
        tenant = await service.tenant()
        campaign = await service.ready(tenant, contacts=CONTACTS)
        await tenant.run(campaign.id)
        yield await _filled(service, tenant, campaign)


async def _filled(service: Service, tenant: Tenant, campaign: campaign_pb2.Campaign) -> Listed:
    choice = random.Random(7)
    known = []
    for number in range(1, CONTACTS + 1):
        status = choice.choice([S.QUEUED, S.SENDING, S.SENT, S.DELIVERED, S.FAILED, S.CANCELLED])
        reason = choice.choice([R.UNREACHABLE, R.OTHER]) if status is S.FAILED else None
        # A queued message is of the latest run, whatever its row says.
        stored_run = choice.choice([1, LATEST_RUN])
        run = LATEST_RUN if status is S.QUEUED else stored_run
        # One recipient that is kept three times, one that is kept more often than is looked up by it.
        who = recipient(number)
        if number in (5, 25, 45):
            who = "+15005559999"
        elif number % 10 == 3 or number == 31:
            who = "+15005558888"
        known.append(Known(number, who, status, reason, run))
        await service.pool.execute(
            "UPDATE message SET status = $2, failure_reason = $3, attempt = 1, run = $4"
            " WHERE number = $1",
            *(number, status, reason, stored_run),
        )
        await service.pool.execute(
            "UPDATE contact SET recipient = $2, recipient_hash = $3 WHERE number = $1",
            *(number, who, recipient_hash(service.recipient_key, Channel.SMS, who)),
        )
    counts = [sum(1 for each in known if each.status is status) for status in MessageStatus]
    await service.pool.execute(
        "UPDATE campaign SET run = 2, waiting = $1, queued = $2, sending = $3, sent = $4,"
        " retrying = $5, delivered = $6, assumed_delivered = $7, failed = $8, opted_out = $9,"
        " cancelled = $10",
        *counts,
    )
    return Listed(service, tenant, campaign, known)


STATUSES = ((), (S.FAILED,), (S.QUEUED, S.SENT))
REASONS = ((), (R.UNREACHABLE,), (R.OTHER, R.UNREACHABLE), (R.TIMED_OUT,))
RUNS = (None, 1, LATEST_RUN, 9)
RECIPIENTS = (None, recipient(20), "+15005559999", "+15005558888", "+4112345678")
PARTS = (None, "5550", "8888", "555004", "nobody")


async def test_every_filter_and_combination(listed: Listed) -> None:
    for statuses, reasons, run, who, part in product(STATUSES, REASONS, RUNS, RECIPIENTS, PARTS):
        where: dict[str, Any] = {"statuses": statuses, "failure_reasons": reasons}
        where |= {"run": run} if run else {}
        where |= {"recipient": who} if who else {}
        where |= {"recipient_contains": part} if part else {}
        numbers, _ = await listed.every(1_000, **where)
        assert numbers == listed.expected(**where), where


@pytest.mark.parametrize("size", [1, 3, 11, 12, 1_000])
async def test_every_page_size(listed: Listed, size: int) -> None:
    filters: list[dict[str, Any]] = [
        {},
        {"statuses": [S.FAILED]},
        {"recipient_contains": "55500"},
        {"recipient": "+15005558888"},
        {"recipient": "+15005559999"},
    ]
    for where in filters:
        numbers, _ = await listed.every(size, **where)
        assert numbers == listed.expected(**where), where


async def test_a_rare_filter_comes_in_bounded_steps(listed: Listed) -> None:
    last = [each.number for each in listed.messages if each.status is S.DELIVERED][-1]
    await listed.service.pool.execute(
        "UPDATE message SET provider_code = NULL, status = 9 WHERE number = $1", last
    )
    await listed.service.pool.execute(
        "UPDATE campaign SET delivered = delivered - 1, opted_out = 1"
    )
    first = await listed.page(statuses=[S.OPTED_OUT])
    assert (len(first.messages), bool(first.next_page_token)) == (0, True)
    assert await listed.every(5, statuses=[S.OPTED_OUT]) == ([last], 6)
    # A status that no message has is not looked for at all.
    assert await listed.every(5, statuses=[S.RETRYING]) == ([], 1)
    # Nor one by one what is found by its recipient.
    assert (await listed.every(5, recipient="+15005559999"))[1] == 1
    assert await listed.every(5, recipient="+4112345678") == ([], 1)


async def test_the_client_goes_on_through_short_and_empty_pages(listed: Listed) -> None:
    async with OutreachClient(listed.service.public_address, listed.tenant.key) as client:
        for where in (
            {"recipient_contains": "555006"},
            {"statuses": [message_pb2.MESSAGE_STATUS_FAILED]},
            {"recipient": "+15005558888", "run": 1},
        ):
            found: Any = client.all_messages(listed.campaign.id, **where)
            assert [each.number async for each in found] == listed.expected(**where)


async def test_upper_and_lower_case_are_alike_in_a_part_of_an_address(listed: Listed) -> None:
    await listed.service.pool.execute(
        "UPDATE contact SET recipient = 'Ada.STRASSE@Example.com' WHERE number = 40"
    )
    assert await listed.every(9, recipient_contains="straSSe@example") == ([40], 6)
    # No pattern: `%` and `_` are themselves.
    assert (await listed.every(9, recipient_contains="a_a"))[0] == []
    assert (await listed.every(9, recipient_contains="%%%"))[0] == []


OTHERS: list[dict[str, Any]] = [
    {},
    {"statuses": [S.FAILED]},
    {"failure_reasons": [R.OTHER]},
    {"recipient": "+15005558888"},
    {"recipient_contains": "555"},
    {"run": 1},
]


async def test_a_token_is_refused_with_any_other_filter(listed: Listed) -> None:
    for mine in OTHERS:
        token = (await listed.page(size=1, **mine)).next_page_token
        assert token, mine
        assert (await listed.page(token, size=2, **mine)).messages is not None
        for other in OTHERS:
            if other != mine:
                async with refused("PAGE_TOKEN_INVALID"):
                    await listed.page(token, size=1, **other)
    other_campaign = await listed.service.ready(listed.tenant, contacts=5)
    token = (await listed.page(size=1)).next_page_token
    async with refused("PAGE_TOKEN_INVALID"):
        request = message_pb2.ListMessagesRequest(campaign_id=other_campaign.id, page_token=token)
        await listed.tenant.call(listed.tenant.messages.ListMessages, request)


@pytest.mark.parametrize(
    ("part", "reason"),
    [("ab", "FIELD_INVALID"), ("x" * 101, "FIELD_TOO_LONG"), ("abc\0", "FIELD_INVALID")],
)
async def test_a_part_has_3_to_100_characters(listed: Listed, part: str, reason: str) -> None:
    async with refused("INVALID_REQUEST", ("filter.recipient_contains", reason)):
        await listed.page(recipient_contains=part)


async def test_another_organisations_campaign_is_not_found(listed: Listed) -> None:
    stranger = await listed.service.tenant()
    request = message_pb2.ListMessagesRequest(campaign_id=listed.campaign.id)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await stranger.call(stranger.messages.ListMessages, request)
