"""Test sends against the real campaign service, with a sender whose answers the test says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.internal.v1 import delivery_pb2_grpc
from outreach.rpc.channel import bearer, create_channel
from outreach.v1 import (
    campaign_pb2,
    channel_pb2,
    failure_reason_pb2,
    test_send_pb2,
    test_send_pb2_grpc,
)
from outreach.vocabulary import Channel
from tests.campaign_service import INTERNAL_TOKEN, Service, Tenant, campaign_service
from tests.waiting import eventually

#: A recipient that no campaign of the tests has.
TO = "+15005559001"


@dataclass
class TrialRig:
    """One tenant who sends tests, and the sender's side of them."""

    service: Service
    owner: Tenant
    instance: UUID = field(default_factory=uuid4)

    def stub(self, tenant: Tenant | None = None) -> Any:
        """The calls of a tenant's own channel."""
        return test_send_pb2_grpc.TestSendServiceStub((tenant or self.owner).channel)

    async def send(
        self,
        campaign_id: str,
        recipients: Sequence[str] = (TO,),
        *,
        tenant: Tenant | None = None,
        **fields: Any,
    ) -> test_send_pb2.TestSend:
        """CreateTestSend, or the OutreachError of its refusal."""
        request = test_send_pb2.CreateTestSendRequest(
            campaign_id=campaign_id, recipients=recipients, **fields
        )
        tenant = tenant or self.owner
        answer: test_send_pb2.TestSend = await tenant.call(
            self.stub(tenant).CreateTestSend, request
        )
        return answer

    async def get(
        self, test_send_id: str, *, tenant: Tenant | None = None
    ) -> test_send_pb2.TestSend:
        """GetTestSend, or the OutreachError of its refusal."""
        tenant = tenant or self.owner
        request = test_send_pb2.GetTestSendRequest(id=test_send_id)
        answer: test_send_pb2.TestSend = await tenant.call(self.stub(tenant).GetTestSend, request)
        return answer

    async def rows(self) -> list[asyncpg.Record]:
        """The hidden campaigns, oldest first."""
        rows: list[asyncpg.Record] = await self.service.pool.fetch(
            "SELECT * FROM campaign WHERE test_of IS NOT NULL ORDER BY id"
        )
        return rows

    async def begun(self, number: int = 1) -> UUID:
        """The id of the latest of so many test sends, once they are there."""

        async def there() -> UUID | None:
            rows = await self.rows()
            return rows[-1]["id"] if len(rows) == number else None

        found = await eventually(there, what=f"test send {number}")
        assert found is not None
        return found

    async def claim(self, test_send_id: UUID) -> list[pb.ClaimedMessage]:
        """All its messages, as a sender claims them."""
        claimed = await self.service.parts.delivery.claims.claim(
            self.instance, test_send_id, 1, 1, 10, 10
        )
        return claimed.messages

    async def report(self, test_send_id: UUID, *reports: pb.Report) -> None:
        """What the sender says of them, committed."""
        part = pb.CampaignReports(campaign_id=str(test_send_id), reports=reports)
        batch = pb.ReportBatch(sequence=1, campaigns=[part])
        await self.service.parts.delivery.reports.apply([batch])

    async def fail(
        self, test_send_id: UUID, reason: "failure_reason_pb2.FailureReason.ValueType", code: str
    ) -> None:
        """The provider refuses the account: the sender hands back, and says so."""
        failure = pb.CampaignFailureReport(
            campaign_id=str(test_send_id), run=1, failure_reason=reason, provider_code=code
        )
        batch = pb.ReportBatch(sequence=1, campaign_failures=[failure])
        await self.service.parts.delivery.reports.apply([batch])

    async def sent(self, campaign_id: str, **fields: Any) -> test_send_pb2.TestSend:
        """A test send whose every message the provider accepts."""
        before = len(await self.rows())
        sending = asyncio.create_task(self.send(campaign_id, **fields))
        try:
            test_send_id = await self.begun(before + 1)
            messages = await self.claim(test_send_id)
            await self.report(test_send_id, *(accepted(message) for message in messages))
        finally:
            answer = await sending
        return answer

    async def content(self, campaign_id: object) -> pb.CampaignContent:
        """What senders get to render."""
        async with create_channel(self.service.internal_address) as channel:
            stub: Any = delivery_pb2_grpc.DeliveryServiceStub(channel)
            content: pb.CampaignContent = await stub.GetCampaignContent(
                pb.GetCampaignContentRequest(campaign_id=str(campaign_id)),
                metadata=bearer(INTERNAL_TOKEN),
                timeout=60,
            )
        return content

    async def email_campaign(self, **fields: Any) -> campaign_pb2.Campaign:
        """A new email campaign, on a channel that is configured for it."""
        await self.service.configure(self.owner.organisation_id, Channel.EMAIL)
        email = campaign_pb2.EmailContent(
            **{
                "subject": "Hi {{name|there}}",
                "html": '<p>{{name|there}} of {{city}}</p><a href="{{unsubscribe_url}}">Stop</a>',
                "from": campaign_pb2.EmailAddress(address="news@example.com"),
                **fields,
            }
        )
        return await self.owner.create(channel=channel_pb2.CHANNEL_EMAIL, sms=None, email=email)


def accepted(message: pb.ClaimedMessage, **changes: Any) -> pb.Report:
    """The provider took it."""
    return report(
        message,
        pb.OUTCOME_ACCEPTED,
        **{"provider_message_id": f"SM{message.number}", "segments": 1, **changes},
    )


def report(
    message: pb.ClaimedMessage, outcome: "pb.Outcome.ValueType", **changes: Any
) -> pb.Report:
    """An outcome of a message that was claimed."""
    return pb.Report(number=message.number, attempt=message.attempt, outcome=outcome, **changes)


@asynccontextmanager
async def trial_rig(
    database_dsn: str, nats_url: str, *, sweeps: bool = False
) -> AsyncIterator[TrialRig]:
    """The service with the hub running, and with its timers where a test needs them."""
    async with (
        campaign_service(database_dsn, nats_url) as service,
        asyncio.TaskGroup() as tasks,
    ):
        background = [tasks.create_task(service.parts.hub.run())]
        if sweeps:
            background.append(tasks.create_task(service.parts.sweepers.run()))
        try:
            yield TrialRig(service, await service.tenant())
        finally:
            for task in background:
                task.cancel()
