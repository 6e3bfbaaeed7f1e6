"""Every action in every state of a campaign, for both channels: done where the campaign says so, else refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.errors import OutreachError
from outreach.v1 import campaign_pb2, campaign_pb2_grpc, contact_pb2, contact_pb2_grpc
from outreach.vocabulary import CampaignAction, CampaignStatus, Channel, MessageStatus
from services.campaign.rpc.campaigns import CampaignServicer
from tests.campaign_service import Service, Tenant, campaign_service
from tests.email_campaigns import create_email, email_content

S, C, A = MessageStatus, CampaignStatus, CampaignAction
BOTH, EMAIL = tuple(Channel), (Channel.EMAIL,)


@dataclass(frozen=True)
class State:
    """A campaign to try everything on, and what the product's rules allow on it."""

    name: str
    status: CampaignStatus
    messages: tuple[MessageStatus, ...]
    allowed: frozenset[CampaignAction]
    channels: tuple[Channel, ...] = BOTH
    stopped: bool = False
    broken: bool = False


def _state(
    name: str, status: CampaignStatus, *messages: MessageStatus, can: str, **more: Any
) -> State:
    allowed = frozenset(CampaignAction[word] for word in (*can.split(), "EXPORT"))
    return State(name, status, messages, allowed, **more)


STATES = [
    _state("created", C.CREATED, can="UPDATE IMPORT_CONTACTS DELETE"),
    _state("created, template broken", C.CREATED, S.WAITING, can="UPDATE DELETE", broken=True),
    _state("ready", C.READY, S.WAITING, S.WAITING, can="UPDATE RUN DELETE"),
    _state("in progress", C.IN_PROGRESS, S.QUEUED, S.SENDING, S.FAILED, can="STOP"),
    _state("stopped", C.IN_PROGRESS, S.QUEUED, S.CANCELLED, can="", stopped=True),
    _state("active retries", C.ACTIVE_RETRIES, S.RETRYING, S.FAILED, can="", channels=EMAIL),
    _state("complete", C.COMPLETE, S.DELIVERED, S.OPTED_OUT, can="DELETE"),
    _state("complete, some cancelled", C.COMPLETE, S.DELIVERED, S.CANCELLED, can="RETRY DELETE"),
    _state("with errors", C.COMPLETE_WITH_ERRORS, S.DELIVERED, S.FAILED, can="RETRY DELETE"),
    _state("failed", C.FAILED, S.FAILED, S.DELIVERED, can="DELETE"),
    _state("failed, some cancelled", C.FAILED, S.CANCELLED, S.DELIVERED, can="RETRY DELETE"),
]


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as service:
        yield service


async def _in_state(service: Service, tenant: Tenant, state: State, channel: Channel) -> str:
    """Put into the database as the service would have left it."""
    if channel is Channel.EMAIL:
        content = email_content(html="<p>No link</p>") if state.broken else None
        campaign = await create_email(tenant, content)
    else:
        campaign = await tenant.create("Hello {{nobody}}" if state.broken else "Hello {{name}}")
    if state.messages:
        await service.put_contacts(tenant, campaign.id, [["Ada"] for _ in state.messages])
    if state.status in (C.CREATED, C.READY):
        return campaign.id
    key, pool = UUID(campaign.id), service.pool
    for number, status in enumerate(state.messages, 1):
        await pool.execute(
            "UPDATE message SET status = $3, attempt = 1, run = 1, failure_reason = $4"
            " WHERE campaign_id = $1 AND number = $2",
            *(key, number, status, 2 if status is S.FAILED else None),
        )
    counts = [state.messages.count(status) for status in MessageStatus]
    await pool.execute(
        "UPDATE campaign SET status = $2, holds_channel = ($2::smallint = 3), run = 1,"
        " start_time = now(), stop_time = CASE WHEN $3 THEN now() END,"
        " end_time = CASE WHEN $2::smallint IN (5, 6, 7) THEN now() END,"
        " failure_reason = CASE WHEN $2::smallint = 7 THEN 13 END,"
        " waiting = $4, queued = $5, sending = $6, sent = $7, retrying = $8, delivered = $9,"
        " assumed_delivered = $10, failed = $11, opted_out = $12, cancelled = $13 WHERE id = $1",
        *(key, state.status, state.stopped, *counts),
    )
    return campaign.id


async def _update(tenant: Tenant, campaign_id: str) -> None:
    request = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign_id, name="Another"),
        update_mask=FieldMask(paths=["name"]),
    )
    await tenant.call(tenant.campaigns.UpdateCampaign, request)


async def _import(tenant: Tenant, campaign_id: str) -> None:
    header = contact_pb2.UploadHeader(
        campaign_id=campaign_id, consent_confirmed=True, file_name="contacts.csv"
    )
    frames = [
        contact_pb2.UploadContactsRequest(header=header),
        contact_pb2.UploadContactsRequest(chunk=b"phone,name\n+14155550100,Ada\n"),
    ]

    async def sent() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
        for frame in frames:
            yield frame

    stub: Any = contact_pb2_grpc.ContactServiceStub(tenant.channel)
    await tenant.call(stub.UploadContacts, sent())


async def _run(tenant: Tenant, campaign_id: str) -> None:
    await tenant.run(campaign_id)


async def _stop(tenant: Tenant, campaign_id: str) -> None:
    request = campaign_pb2.StopCampaignRequest(id=campaign_id)
    await tenant.call(tenant.campaigns.StopCampaign, request)


async def _retry(tenant: Tenant, campaign_id: str) -> None:
    # All that there is; with `force`, so that the state alone decides.
    statuses: Any = [S.FAILED, S.CANCELLED]
    request = campaign_pb2.RetryMessagesRequest(
        campaign_id=campaign_id,
        accepted_disclaimer_version=await tenant.disclaimer_version(),
        force=True,
        filter=campaign_pb2.RetryFilter(statuses=statuses),
    )
    await tenant.call(tenant.campaigns.RetryMessages, request)


async def _delete(tenant: Tenant, campaign_id: str) -> None:
    request = campaign_pb2.DeleteCampaignRequest(id=campaign_id)
    await tenant.call(tenant.campaigns.DeleteCampaign, request)


DO: dict[CampaignAction, Callable[[Tenant, str], Awaitable[None]]] = {
    A.UPDATE: _update,
    A.IMPORT_CONTACTS: _import,
    A.RUN: _run,
    A.STOP: _stop,
    A.RETRY: _retry,
    A.DELETE: _delete,
}
_METHODS = {A.STOP: "StopCampaign", A.RETRY: "RetryMessages", A.DELETE: "DeleteCampaign"}


def _served(action: CampaignAction) -> bool:
    method = _METHODS.get(action)
    if method is None:
        return True
    base = getattr(campaign_pb2_grpc.CampaignServiceServicer, method)
    return getattr(CampaignServicer, method) is not base


@pytest.mark.parametrize("action", DO, ids=lambda action: action.name)
@pytest.mark.parametrize("channel", Channel, ids=lambda channel: channel.name)
async def test_an_action_is_done_where_it_is_allowed_and_refused_elsewhere(
    service: Service, channel: Channel, action: CampaignAction
) -> None:
    for state in STATES:
        if channel not in state.channels:
            continue
        tenant = await service.tenant(channels=BOTH)
        campaign_id = await _in_state(service, tenant, state, channel)
        campaign = await tenant.get(campaign_id)
        assert C(campaign.status) is state.status, state.name
        assert {A(each) for each in campaign.allowed_actions} == state.allowed, state.name
        if not _served(action):
            continue
        before = await service.dump()
        refusal = None
        try:
            await DO[action](tenant, campaign_id)
        except OutreachError as error:
            refusal = error
        assert (refusal is None) == (action in state.allowed), (state.name, refusal)
        if refusal is not None:
            assert refusal.reason == "ACTION_NOT_ALLOWED", state.name
            assert refusal.metadata["status"] == state.status.name
            assert await service.dump() == before, state.name


def test_every_state_is_here() -> None:
    for channel in Channel:
        states = {state.status for state in STATES if channel in state.channels}
        missing = {C.ACTIVE_RETRIES} if channel is Channel.SMS else set()
        assert states == set(CampaignStatus) - missing
    assert {action for state in STATES for action in state.allowed} == set(CampaignAction)
    assert set(DO) == set(CampaignAction) - {A.EXPORT}
