"""A campaign in its runs, over the public calls, with the test in the senders' place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2, message_pb2
from outreach.v1.campaign_pb2 import MessageNumbers, RetryFilter
from outreach.v1.failure_reason_pb2 import FailureReason as FailureReasonProto
from outreach.vocabulary import FailureReason, MessageStatus
from tests.campaign_data import Running, statuses
from tests.campaign_service import Service, Tenant
from tests.delivery_rig import Delivery, report

FAILED = message_pb2.MESSAGE_STATUS_FAILED
CANCELLED = message_pb2.MESSAGE_STATUS_CANCELLED
S = MessageStatus


@dataclass
class Runs:
    """One campaign of a tenant that is run, stopped and retried."""

    service: Service
    tenant: Tenant
    id: str
    contacts: int
    delivery: Delivery = field(init=False)

    def __post_init__(self) -> None:
        self.delivery = Delivery(self.service.pool)

    @property
    def running(self) -> Running:
        return Running(self.tenant.organisation_id, UUID(self.id), self.contacts)

    async def get(self) -> campaign_pb2.Campaign:
        return await self.tenant.get(self.id)

    async def stop(self, **fields: Any) -> campaign_pb2.Campaign:
        request = campaign_pb2.StopCampaignRequest(id=self.id, **fields)
        stopped: campaign_pb2.Campaign = await self.tenant.call(
            self.tenant.campaigns.StopCampaign, request
        )
        return stopped

    async def retry(
        self, *numbers: int, statuses: Any = None, reasons: Any = (), **fields: Any
    ) -> campaign_pb2.RetryMessagesResponse:
        """These messages; else those that match, FAILED ones when nothing is said."""
        if "accepted_disclaimer_version" not in fields:
            fields["accepted_disclaimer_version"] = await self.tenant.disclaimer_version()
        if numbers:
            fields["numbers"] = MessageNumbers(numbers=numbers)
        else:
            fields["filter"] = RetryFilter(
                statuses=statuses or (),
                failure_reasons=[FailureReasonProto.ValueType(reason) for reason in reasons],
            )
        request = campaign_pb2.RetryMessagesRequest(campaign_id=self.id, **fields)
        answer: campaign_pb2.RetryMessagesResponse = await self.tenant.call(
            self.tenant.campaigns.RetryMessages, request
        )
        return answer

    async def timeline(self, number: int) -> message_pb2.MessageTimeline:
        request = message_pb2.GetMessageTimelineRequest(campaign_id=self.id, number=number)
        timeline: message_pb2.MessageTimeline = await self.tenant.call(
            self.tenant.messages.GetMessageTimeline, request
        )
        return timeline

    async def claim(self, limit: int = 1_000, run: int = 1) -> dict[int, int]:
        """Attempts by number."""
        claimed = await self.delivery.claim(self.running, limit, run=run)
        return {message.number: message.attempt for message in claimed.messages}

    async def report(
        self, attempts: dict[int, int], outcome: pb.Outcome.ValueType, **more: Any
    ) -> None:
        """The same of all these."""
        await self.delivery.report(
            self.running,
            *(report(number, outcome, attempt=n, **more) for number, n in attempts.items()),
        )

    async def fail(
        self, attempts: dict[int, int], reason: FailureReason = FailureReason.UNREACHABLE
    ) -> None:
        await self.report(
            attempts, pb.OUTCOME_FAILED, failure_reason=int(reason), provider_code="30003"
        )

    async def deliver(self, attempts: dict[int, int]) -> None:
        await self.report(attempts, pb.OUTCOME_DELIVERED)

    async def cancel(self) -> None:
        """What the sweeper does."""
        await self.service.parts.sweepers.cancel_queued()

    async def statuses(self) -> dict[int, MessageStatus]:
        return await statuses(self.service.pool, UUID(self.id))


async def begun(service: Service, tenant: Tenant, contacts: int = 3) -> Runs:
    """IN_PROGRESS, run 1, everything queued."""
    campaign = await service.ready(tenant, contacts=contacts)
    await tenant.run(campaign.id)
    return Runs(service, tenant, campaign.id, contacts)


async def half_failed(service: Service, tenant: Tenant, contacts: int = 4) -> Runs:
    """COMPLETE_WITH_ERRORS: the first half failed (UNREACHABLE), the others were delivered."""
    runs = await begun(service, tenant, contacts)
    attempts = await runs.claim()
    await runs.fail({n: a for n, a in attempts.items() if n <= contacts // 2})
    await runs.deliver({n: a for n, a in attempts.items() if n > contacts // 2})
    return runs


async def stopped_half_way(service: Service, tenant: Tenant, contacts: int = 4) -> Runs:
    """COMPLETE: the first half was delivered, the others are cancelled."""
    runs = await begun(service, tenant, contacts)
    attempts = await runs.claim(contacts // 2)
    await runs.stop()
    await runs.cancel()
    await runs.deliver(attempts)
    return runs


def told(caught: Any) -> dict[str, str]:
    """A refusal's metadata, without the id of the call."""
    metadata = dict(caught["error"].metadata)
    metadata.pop("request_id")
    return metadata
