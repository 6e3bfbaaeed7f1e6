"""Calls of SuppressionService over the service of `tests.campaign_service`, and what senders tell beside it."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import suppression_pb2
from outreach.vocabulary import Channel
from services.campaign.delivery.reports import Reports
from tests.campaign_data import Wakes
from tests.campaign_service import Service, Tenant

SMS, EMAIL = Channel.SMS, Channel.EMAIL


async def add(
    tenant: Tenant, recipient: str, channel: Channel = SMS, **fields: Any
) -> suppression_pb2.Suppression:
    """By an operator."""
    request = suppression_pb2.CreateSuppressionRequest(
        channel=int(channel),  # type: ignore[arg-type] # same numbers, held by a test
        recipient=recipient,
        **fields,
    )
    answer: suppression_pb2.Suppression = await tenant.call(
        tenant.suppressions.CreateSuppression, request
    )
    return answer


async def get(
    tenant: Tenant, recipient: str, channel: Channel = SMS
) -> suppression_pb2.Suppression:
    """As it is."""
    request = suppression_pb2.GetSuppressionRequest(
        channel=int(channel),  # type: ignore[arg-type] # same numbers, held by a test
        recipient=recipient,
    )
    answer: suppression_pb2.Suppression = await tenant.call(
        tenant.suppressions.GetSuppression, request
    )
    return answer


async def remove(tenant: Tenant, recipient: str, channel: Channel = SMS, **fields: Any) -> None:
    """By an operator."""
    request = suppression_pb2.DeleteSuppressionRequest(
        channel=int(channel),  # type: ignore[arg-type] # same numbers, held by a test
        recipient=recipient,
        **fields,
    )
    await tenant.call(tenant.suppressions.DeleteSuppression, request)


async def erase(
    tenant: Tenant, recipient: str, channel: Channel = SMS, **fields: Any
) -> suppression_pb2.ErasePersonResponse:
    """Erase a person."""
    request = suppression_pb2.ErasePersonRequest(
        channel=int(channel),  # type: ignore[arg-type] # same numbers, held by a test
        recipient=recipient,
        **fields,
    )
    answer: suppression_pb2.ErasePersonResponse = await tenant.call(
        tenant.suppressions.ErasePerson, request
    )
    return answer


async def page(tenant: Tenant, **fields: Any) -> tuple[Sequence[suppression_pb2.Suppression], str]:
    """One page, and the token of the next."""
    request = suppression_pb2.ListSuppressionsRequest(**fields)
    answer = await tenant.call(tenant.suppressions.ListSuppressions, request)
    return list(answer.suppressions), answer.next_page_token


async def listed(tenant: Tenant, **fields: Any) -> list[suppression_pb2.Suppression]:
    """All pages."""
    found: list[suppression_pb2.Suppression] = []
    token = ""
    while True:
        suppressions, token = await page(tenant, page_token=token, **fields)
        found += suppressions
        if not token:
            return found


async def import_file(
    tenant: Tenant, data: bytes, channel: Channel = SMS, **header: Any
) -> suppression_pb2.ImportSuppressionsResponse:
    """A file in chunks of 64 KiB."""

    async def frames() -> AsyncIterator[suppression_pb2.ImportSuppressionsRequest]:
        fields = {"file_name": "stop.csv", "channel": int(channel), **header}
        yield suppression_pb2.ImportSuppressionsRequest(
            header=suppression_pb2.SuppressionFileHeader(**fields)
        )
        for start in range(0, len(data), 65_536):
            yield suppression_pb2.ImportSuppressionsRequest(chunk=data[start : start + 65_536])

    async def call(request: Any, **options: Any) -> Any:
        return await tenant.suppressions.ImportSuppressions(request, **{**options, "timeout": 120})

    answer: suppression_pb2.ImportSuppressionsResponse = await tenant.call(call, frames())
    return answer


async def told(service: Service, *opt_outs: pb.OptOut) -> None:
    """What a sender tells of opt-outs."""
    reports = Reports(
        service.pool, Wakes(), recipient_key=service.recipient_key, look_up_after_seconds=0.0
    )
    await reports.apply([pb.ReportBatch(sequence=1, opt_outs=opt_outs)])


def opt_out(tenant: Tenant, seconds: float, channel: Channel = SMS, **fields: Any) -> pb.OptOut:
    """At this time, since 1970: an opt-out unless `action` says otherwise."""
    return pb.OptOut(
        **{
            "organisation_id": str(tenant.organisation_id),
            "channel": int(channel),
            "action": pb.OPT_OUT_ACTION_ADD,
            "time": Timestamp(seconds=int(seconds)),
            "source": "reply",
            **fields,
        }
    )
