"""Who reaches what: credentials, roles, and that organisations can't see each other."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped] # has no types

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.errors import from_status
from outreach.v1 import (
    attachment_pb2,
    campaign_pb2,
    contact_pb2,
    message_pb2,
    suppression_pb2,
    test_send_pb2,
    test_send_pb2_grpc,
    watch_pb2,
)
from outreach.vocabulary import Role
from tests.campaign_service import INTERNAL_TOKEN, Service, campaign_service, refused

PUBLIC_METHODS: list[MethodDescriptor] = [
    method
    for proto in (
        attachment_pb2,
        campaign_pb2,
        contact_pb2,
        message_pb2,
        suppression_pb2,
        test_send_pb2,
        watch_pb2,
    )
    for service in proto.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


def _name(method: MethodDescriptor) -> str:
    return str(method.full_name)


async def _attempt(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Any, metadata: Any = ()
) -> OutreachError:
    """Calls any RPC with one request; it has to be refused."""
    assert method.containing_service is not None
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    answer_type = message_factory.GetMessageClass(method.output_type)
    call: Any = kind(path, type(request).SerializeToString, answer_type.FromString)
    sent = iter([request]) if method.client_streaming else request
    try:
        answer = call(sent, metadata=metadata, timeout=60)
        if method.server_streaming:
            async for _ in answer:
                pass
        else:
            await answer
    except grpc.aio.AioRpcError as error:
        return from_status(error)
    raise AssertionError(f"{path} was not refused")


@pytest.mark.parametrize("method", PUBLIC_METHODS, ids=_name)
async def test_no_rpc_answers_without_a_credential(
    service: Service, method: MethodDescriptor
) -> None:
    request = message_factory.GetMessageClass(method.input_type)()
    for metadata, reason in (
        ((), "CREDENTIAL_MISSING"),
        (bearer("not a key that there is"), "CREDENTIAL_INVALID"),
        ((("authorization", "Basic abc"),), "CREDENTIAL_INVALID"),
        ((("authorization", "Bearer " + "x" * 600),), "CREDENTIAL_INVALID"),
    ):
        error = await _attempt(service.channel, method, request, metadata)
        assert error.reason == reason
        assert error.metadata["request_id"]


@pytest.mark.parametrize("method", PUBLIC_METHODS, ids=_name)
async def test_operations_may_do_nothing_with_campaigns(
    service: Service, method: MethodDescriptor
) -> None:
    tenant = await service.tenant(role=Role.OPERATIONS)
    request = message_factory.GetMessageClass(method.input_type)()
    error = await _attempt(service.channel, method, request, tenant.metadata)
    assert (error.reason, error.metadata["role"]) == ("ROLE_NOT_ALLOWED", "OPERATIONS")


@pytest.mark.parametrize("role", [Role.ORG_ADMIN, Role.ADMIN, Role.CAMPAIGNER])
async def test_the_other_roles_may(service: Service, role: Role) -> None:
    tenant = await service.tenant(role=role)
    assert (await tenant.create()).id


def _requests_for(campaign_id: str) -> dict[str, Any]:
    """A valid request about one campaign for every RPC that names one."""
    campaign = campaign_pb2.Campaign(id=campaign_id, name="Mine now")
    return {
        "GetCampaign": campaign_pb2.GetCampaignRequest(id=campaign_id),
        "UpdateCampaign": campaign_pb2.UpdateCampaignRequest(
            campaign=campaign, update_mask=FieldMask(paths=["name"])
        ),
        "RunCampaign": campaign_pb2.RunCampaignRequest(id=campaign_id),
        "StopCampaign": campaign_pb2.StopCampaignRequest(id=campaign_id),
        "RetryMessages": campaign_pb2.RetryMessagesRequest(
            campaign_id=campaign_id, filter=campaign_pb2.RetryFilter()
        ),
        "DeleteCampaign": campaign_pb2.DeleteCampaignRequest(id=campaign_id),
        "PreviewCampaign": campaign_pb2.PreviewCampaignRequest(id=campaign_id),
        "EstimateCampaign": campaign_pb2.EstimateCampaignRequest(id=campaign_id),
        "UploadContacts": contact_pb2.UploadContactsRequest(
            header=contact_pb2.UploadHeader(
                campaign_id=campaign_id, consent_confirmed=True, file_name="a.csv"
            )
        ),
        "ImportContacts": contact_pb2.ImportContactsRequest(
            campaign_id=campaign_id, upload_id=campaign_id
        ),
        "ListContactProblems": contact_pb2.ListContactProblemsRequest(campaign_id=campaign_id),
        "DownloadContactProblems": contact_pb2.DownloadContactProblemsRequest(
            campaign_id=campaign_id
        ),
        "UploadAttachment": attachment_pb2.UploadAttachmentRequest(
            header=attachment_pb2.AttachmentHeader(campaign_id=campaign_id, file_name="a.txt")
        ),
        "ListAttachments": attachment_pb2.ListAttachmentsRequest(campaign_id=campaign_id),
        "DeleteAttachment": attachment_pb2.DeleteAttachmentRequest(
            campaign_id=campaign_id, id="018f4e6a-7c1b-7d3e-9a55-0123456789ab"
        ),
        "GetMessage": message_pb2.GetMessageRequest(campaign_id=campaign_id, number=1),
        "GetMessageTimeline": message_pb2.GetMessageTimelineRequest(
            campaign_id=campaign_id, number=1
        ),
        "ListMessages": message_pb2.ListMessagesRequest(campaign_id=campaign_id),
        "CreateTestSend": test_send_pb2.CreateTestSendRequest(
            campaign_id=campaign_id, recipients=["+15005559001"]
        ),
        "WatchCampaign": watch_pb2.WatchCampaignRequest(campaign_id=campaign_id),
    }


#: RPCs that name no campaign; what they show is tested below, and test sends in a file of theirs.
_OF_THE_CALLER = {
    "CreateCampaign",
    "ListCampaigns",
    "GetDisclaimer",
    "WatchCampaigns",
    "GetTestSend",
    "ListSuppressions",
    "GetSuppression",
    "CreateSuppression",
    "DeleteSuppression",
    "ImportSuppressions",
    "ErasePerson",
}


def test_every_rpc_is_known_here() -> None:
    assert {method.name for method in PUBLIC_METHODS} == {*_requests_for(""), *_OF_THE_CALLER}


@pytest.mark.parametrize(
    "method", [m for m in PUBLIC_METHODS if m.name not in _OF_THE_CALLER], ids=_name
)
async def test_another_organisations_campaign_is_not_found(
    service: Service, method: MethodDescriptor
) -> None:
    owner, stranger = await service.tenant(), await service.tenant()
    campaign = await service.ready(owner)
    before = await service.dump()
    request = _requests_for(campaign.id)[method.name]
    error = await _attempt(service.channel, method, request, stranger.metadata)
    assert error.reason == "CAMPAIGN_NOT_FOUND"
    assert await service.dump() == before


@pytest.mark.parametrize(
    "method", [m for m in PUBLIC_METHODS if m.name not in _OF_THE_CALLER], ids=_name
)
async def test_a_test_send_is_no_campaign_to_its_own_organisation_either(
    service: Service, method: MethodDescriptor
) -> None:
    owner = await service.tenant()
    campaign = await service.ready(owner)
    stub: Any = test_send_pb2_grpc.TestSendServiceStub(service.channel)
    service.parts.test_sends._answer_seconds_max = 0.0  # nobody sends
    test = await owner.call(stub.CreateTestSend, _requests_for(campaign.id)["CreateTestSend"])
    before = await service.dump()
    request = _requests_for(test.id)[method.name]
    error = await _attempt(service.channel, method, request, owner.metadata)
    assert error.reason == "CAMPAIGN_NOT_FOUND"
    assert await service.dump() == before


async def test_another_organisations_campaigns_are_not_listed(service: Service) -> None:
    owner, stranger = await service.tenant(), await service.tenant()
    campaign = await service.ready(owner)
    await owner.run(campaign.id)
    request = campaign_pb2.ListCampaignsRequest()
    page = await stranger.call(stranger.campaigns.ListCampaigns, request)
    assert list(page.campaigns) == []
    page = await owner.call(owner.campaigns.ListCampaigns, request)
    assert [listed.id for listed in page.campaigns] == [campaign.id]


async def test_senders_need_the_internal_token(service: Service) -> None:
    channel = create_channel(service.internal_address)
    try:
        methods = delivery_pb2.DESCRIPTOR.services_by_name["DeliveryService"].methods
        for method in methods:
            request = message_factory.GetMessageClass(method.input_type)()
            for metadata, reason in (
                ((), "CREDENTIAL_MISSING"),
                (bearer(INTERNAL_TOKEN + "x"), "CREDENTIAL_INVALID"),
            ):
                error = await _attempt(channel, method, request, metadata)
                assert error.reason == reason
        stub: Any = delivery_pb2_grpc.DeliveryServiceStub(channel)
        request = delivery_pb2.GetCampaignContentRequest(
            campaign_id="018f4e6a-7c1b-7d3e-9a55-0123456789ab"
        )
        with pytest.raises(grpc.aio.AioRpcError) as info:
            await stub.GetCampaignContent(request, metadata=bearer(INTERNAL_TOKEN), timeout=60)
        assert from_status(info.value).reason == "CAMPAIGN_NOT_FOUND"
    finally:
        await channel.close()


async def test_the_public_port_has_no_internal_service(service: Service) -> None:
    tenant = await service.tenant()
    methods = delivery_pb2.DESCRIPTOR.services_by_name["DeliveryService"].methods
    for method in methods:
        request = message_factory.GetMessageClass(method.input_type)()
        error = await _attempt(service.channel, method, request, tenant.metadata)
        assert error.reason == "UNIMPLEMENTED"


async def test_health_needs_no_credential(service: Service) -> None:
    for address in (service.public_address, service.internal_address):
        channel = create_channel(address)
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        finally:
            await channel.close()


async def test_acceptances_name_the_key(service: Service) -> None:
    tenant = await service.tenant(role=Role.ADMIN)
    campaign = await service.ready(tenant)
    async with refused("DISCLAIMER_NOT_ACCEPTED"):
        await tenant.run(campaign.id, accepted_disclaimer_version="")
    await tenant.run(campaign.id)
    accepted_by = await service.pool.fetchval("SELECT accepted_by FROM disclaimer_acceptance")
    assert accepted_by == "key of ADMIN"
