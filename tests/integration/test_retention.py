"""Retention: off unless set; deletes, or removes contacts' data, of old campaigns and never of running ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2
from outreach.vocabulary import CampaignStatus, MessageStatus
from services.campaign.retention import Retention, RetentionTerms
from services.campaign.store import erasures
from tests.campaign_service import Service, Tenant, campaign_service, recipient, settings
from tests.delivery_rig import Delivery
from tests.suppression_rig import SMS, get, opt_out, told

S = CampaignStatus
ENDED = (S.COMPLETE, S.COMPLETE_WITH_ERRORS, S.FAILED)


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


async def campaign_in(
    service: Service, tenant: Tenant, status: CampaignStatus, *, days: float, ended: bool = True
) -> str:
    """Whose every time is so many days ago."""
    campaign = await service.ready(tenant)
    run = status not in (S.CREATED, S.READY)
    await service.pool.execute(
        "UPDATE campaign SET status = $2::smallint, holds_channel = ($2::smallint = 3), run = $3,"
        " waiting = CASE WHEN $3 = 0 THEN 3 ELSE 0 END, delivered = CASE WHEN $3 = 1 THEN 3 ELSE 0 END,"
        " create_time = now() - make_interval(secs => $4), import_time = now() - make_interval(secs => $4),"
        " update_time = now() - make_interval(secs => $4), start_time = now() - make_interval(secs => $4),"
        " end_time = CASE WHEN $5 THEN now() - make_interval(secs => $4) END WHERE id = $1",
        UUID(campaign.id),
        status,
        int(run),
        days * 86_400.0,
        run and ended and status not in (S.IN_PROGRESS, S.ACTIVE_RETRIES),
    )
    if run:
        await service.pool.execute(
            "UPDATE message SET status = 6, attempt = 1, run = 1, provider_message_id = 'SM'"
            " WHERE campaign_id = $1",
            UUID(campaign.id),
        )
    return campaign.id


def retention(service: Service, **terms: float | None) -> Retention:
    whole: dict[str, Any] = {"delete_after_days": None, "strip_after_days": None, **terms}
    parts = service.parts
    return Retention(
        service.pool, parts.suppressions._wakeups, parts.deletions, RetentionTerms(**whole)
    )


async def remaining(service: Service) -> set[str]:
    return {str(row["id"]) for row in await service.pool.fetch("SELECT id FROM campaign")}


async def with_data(service: Service) -> set[str]:
    rows = await service.pool.fetch(
        "SELECT DISTINCT campaign_id FROM contact WHERE recipient <> ''"
    )
    return {str(row["campaign_id"]) for row in rows}


async def test_off_by_default(service: Service) -> None:
    tenant = await service.tenant()
    for status in ENDED:
        await campaign_in(service, tenant, status, days=10_000)
    configured = settings("postgres://unused")
    assert configured.retention_delete_after_days is None
    assert configured.retention_strip_after_days is None
    before = await service.dump()
    await service.parts.retention.sweep()
    assert await service.dump() == before


@pytest.mark.parametrize("name", ["retention_delete_after_days", "retention_strip_after_days"])
def test_settings_are_days(name: str) -> None:
    assert getattr(settings("postgres://unused", **{name: "0.5"}), name) == 0.5
    for wrong in ("0", "-1", "soon"):
        with pytest.raises(ValueError, match=name):
            settings("postgres://unused", **{name: wrong})


async def test_old_campaigns_are_deleted_and_running_ones_never(service: Service) -> None:
    tenant = await service.tenant()
    old: dict[CampaignStatus, str] = {
        status: await campaign_in(service, tenant, status, days=31)
        for status in S
        if status is not S.IN_PROGRESS
    }
    old[S.IN_PROGRESS] = await campaign_in(service, tenant, S.IN_PROGRESS, days=31)
    unsettled = await campaign_in(service, tenant, S.FAILED, days=31, ended=False)
    young = [await campaign_in(service, tenant, status, days=29) for status in (*ENDED, S.READY)]
    edited = await campaign_in(service, tenant, S.READY, days=31)
    await service.pool.execute(
        "UPDATE campaign SET update_time = now() WHERE id = $1", UUID(edited)
    )
    await retention(service, delete_after_days=30.0).sweep()
    kept = {old[S.IN_PROGRESS], old[S.ACTIVE_RETRIES], unsettled, edited, *young}
    assert await remaining(service) == kept
    while await service.parts.deletions.sweep():
        continue
    assert await with_data(service) == kept


async def test_old_campaigns_lose_their_contacts_data_and_keep_their_counts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "BATCH_CONTACTS_MAX", 2)
    tenant = await service.tenant()
    old: dict[CampaignStatus, str] = {
        status: await campaign_in(service, tenant, status, days=31)
        for status in S
        if status is not S.IN_PROGRESS
    }
    old[S.IN_PROGRESS] = await campaign_in(service, tenant, S.IN_PROGRESS, days=31)
    unsettled = await campaign_in(service, tenant, S.FAILED, days=31, ended=False)
    young = await campaign_in(service, tenant, S.COMPLETE, days=29)
    await service.pool.execute(
        "INSERT INTO upload (id, campaign_id, consent_by, description, size_bytes, consent_time)"
        " SELECT gen_random_uuid(), id, 'ann', '{}', 1, create_time FROM campaign"
    )
    before = {key: await tenant.get(key) for key in old.values()}
    keeping = {old[S.IN_PROGRESS], old[S.ACTIVE_RETRIES], unsettled, young}
    for _ in range(2):
        await retention(service, strip_after_days=30.0).sweep()
        assert await with_data(service) == keeping
    rows = await service.pool.fetch(
        "SELECT campaign_id FROM contact WHERE recipient <> '' OR variables <> ARRAY[NULL::text]"
    )
    assert {str(row["campaign_id"]) for row in rows} == keeping
    uploads = await service.pool.fetch("SELECT campaign_id FROM upload")
    assert {str(row["campaign_id"]) for row in uploads} == keeping
    ids = await service.pool.fetch(
        "SELECT DISTINCT campaign_id FROM message WHERE provider_message_id IS NOT NULL"
    )
    assert {str(row["campaign_id"]) for row in ids} == keeping
    for status, key in old.items():
        now = await tenant.get(key)
        assert now.status == before[key].status
        if status in (S.CREATED, S.READY):
            # Nobody is left to send to.
            assert (now.counts.waiting, now.counts.opted_out, now.counts.total) == (0, 3, 3)
            assert campaign_pb2.CAMPAIGN_ACTION_RUN not in now.allowed_actions
        else:
            assert now.counts == before[key].counts
    stripped = await service.pool.fetch("SELECT id FROM campaign WHERE strip_time IS NOT NULL")
    assert {str(row["id"]) for row in stripped} == set(old.values()) - keeping


async def test_a_draft_that_gets_contacts_later_is_stripped_then(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    await service.pool.execute("UPDATE campaign SET create_time = now() - interval '40 days'")
    await service.pool.execute(
        "INSERT INTO upload (id, campaign_id, consent_by, description, size_bytes)"
        " VALUES (gen_random_uuid(), $1, 'ann', '{}', 1)",
        UUID(campaign.id),
    )
    await retention(service, strip_after_days=30.0).sweep()
    assert await service.pool.fetchval("SELECT count(*) FROM upload") == 1, "it is of today"
    await service.pool.execute("UPDATE upload SET consent_time = now() - interval '31 days'")
    await retention(service, strip_after_days=30.0).sweep()
    assert await service.pool.fetchval("SELECT count(*) FROM upload") == 0
    await service.put_contacts(tenant, campaign.id, [["Ann"]])
    await retention(service, strip_after_days=30.0).sweep()
    assert await with_data(service) == {campaign.id}, "its data is of today"
    await service.pool.execute("UPDATE campaign SET import_time = now() - interval '31 days'")
    await retention(service, strip_after_days=30.0).sweep()
    assert await with_data(service) == set()


async def test_an_old_draft_that_just_got_a_file_is_not_deleted(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    await service.pool.execute(
        "UPDATE campaign SET create_time = now() - interval '40 days',"
        " update_time = now() - interval '40 days'"
    )
    await service.pool.execute(
        "INSERT INTO upload (id, campaign_id, consent_by, description, size_bytes)"
        " VALUES (gen_random_uuid(), $1, 'ann', '{}', 1)",
        UUID(campaign.id),
    )
    await retention(service, delete_after_days=30.0).sweep()
    assert await remaining(service) == {campaign.id}
    await service.pool.execute("UPDATE upload SET consent_time = now() - interval '31 days'")
    await retention(service, delete_after_days=30.0).sweep()
    assert await remaining(service) == set()


async def test_a_late_opt_out_of_a_stripped_contact_counts(service: Service) -> None:
    tenant = await service.tenant()
    campaign_id = await campaign_in(service, tenant, S.COMPLETE, days=31)
    await retention(service, strip_after_days=30.0).sweep()
    await told(service, opt_out(tenant, 1_000, campaign_id=campaign_id, number=2))
    found = await get(tenant, recipient(2), SMS)
    assert found.recipient == "", "found by its hash; the number itself is gone"


async def test_what_is_run_again_is_left_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await service.tenant()
    campaign_id = await campaign_in(service, tenant, S.COMPLETE_WITH_ERRORS, days=31)
    monkeypatch.setattr(erasures, "BATCH_CONTACTS_MAX", 1)
    numbers: list[int] = []

    async def retry() -> None:
        """As it leaves the campaign."""
        await service.pool.execute(
            "UPDATE message SET status = 2 WHERE campaign_id = $1 AND number IN (1, 3)",
            UUID(campaign_id),
        )
        await service.pool.execute(
            "UPDATE campaign SET status = 3, holds_channel = true, run = 2, queued = 2, delivered = 1,"
            " end_time = NULL WHERE id = $1",
            UUID(campaign_id),
        )

    class RetriedBetween(Retention):
        async def _strip_batch(
            self, campaign_id: UUID, days: float, after: int
        ) -> list[int] | None:
            found = await super()._strip_batch(campaign_id, days, after)
            numbers.extend(found or [])
            await retry()
            return found

    parts, terms = service.parts, RetentionTerms(delete_after_days=None, strip_after_days=30.0)
    await RetriedBetween(service.pool, parts.suppressions._wakeups, parts.deletions, terms).sweep()
    assert numbers == [1]
    assert (
        await service.pool.fetchval("SELECT count(*) FROM campaign WHERE strip_time IS NOT NULL")
        == 0
    )
    # Nobody is sent to whose data is gone; the others are.
    claimed = await Delivery(service.pool).claims.claim(uuid4(), UUID(campaign_id), 2, 1, 3, 3)
    assert [message.number for message in claimed.messages] == [3]
    assert claimed.state == pb.CLAIM_STATE_EXHAUSTED
    statuses = await service.pool.fetch("SELECT number, status FROM message ORDER BY number")
    assert [row["status"] for row in statuses] == [
        MessageStatus.OPTED_OUT,
        MessageStatus.DELIVERED,
        MessageStatus.SENDING,
    ]


async def test_two_replicas_at_once(service: Service) -> None:
    tenant = await service.tenant()
    for _ in range(5):
        await campaign_in(service, tenant, S.COMPLETE, days=31)
    await asyncio.gather(
        *(
            retention(service, delete_after_days=30.0, strip_after_days=7.0).sweep()
            for _ in range(3)
        )
    )
    await retention(service, delete_after_days=30.0).sweep()
    assert await remaining(service) == set()
