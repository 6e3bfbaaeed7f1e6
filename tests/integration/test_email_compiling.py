"""Templates are compiled beside the loop, outside of transactions, and never win over a later edit."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.v1 import campaign_pb2, channel_pb2
from services.campaign.domain.compilation import Compilation
from services.campaign.domain.content import EmailContent
from services.campaign.usecases.compile_template import (
    COMPILATIONS_AT_ONCE_MAX,
    ROUNDS_MAX,
    TemplateCompiler,
    compilation_of_email,
)
from tests.campaign_service import Service, campaign_service, refused
from tests.email_campaigns import (
    LINK,
    create_email,
    email_content,
    email_tenant,
    ready_email,
    update_email,
)
from tests.waiting import eventually


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


class Gate:
    """Holds up the compilation of contents with SLOW in them until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.compiled: list[EmailContent] = []
        self.inside = 0
        self.peak = 0
        self._lock = threading.Lock()

    def __call__(self, content: EmailContent) -> Compilation:
        with self._lock:
            self.compiled.append(content)
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        try:
            if "SLOW" in str(content):
                assert self.opened.wait(60)
            return compilation_of_email(content)
        finally:
            with self._lock:
                self.inside -= 1


@contextmanager
def gated(service: Service) -> Iterator[Gate]:
    gate = Gate()
    service.parts.campaigns._compiler = TemplateCompiler(gate)
    try:
        yield gate
    finally:
        gate.opened.set()


SLOW = email_content(html=f"SLOW {LINK}")


async def test_other_calls_are_answered_while_a_template_is_compiled(service: Service) -> None:
    tenant = await email_tenant(service)
    known = await create_email(tenant)
    with gated(service) as gate:
        creating = asyncio.create_task(create_email(tenant, SLOW))
        updating = asyncio.create_task(
            update_email(tenant, known.id, "email.html", content=email_content(html=f"SLOW{LINK}"))
        )
        await eventually(lambda: gate.inside == 2, what="both are being compiled")
        # On the loop they would keep it from ever answering this.
        assert await tenant.get(known.id) == known
        renamed = await update_email(tenant, known.id, "name", name="B")
        assert renamed.name == "B"
        open_transactions = await service.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state LIKE 'idle in transaction%'"
        )
        assert open_transactions == 0
        assert service.pool.get_idle_size() == service.pool.get_size()
        assert not creating.done()
        assert not updating.done()
        gate.opened.set()
        assert "SLOW" in (await creating).email.html
        changed = await updating
    assert ("SLOW" in changed.email.html, changed.name) == (True, "B")


async def test_few_are_compiled_at_once(service: Service) -> None:
    tenant = await email_tenant(service)
    with gated(service) as gate:
        creating = [asyncio.create_task(create_email(tenant, SLOW)) for _ in range(7)]
        await eventually(lambda: gate.inside == COMPILATIONS_AT_ONCE_MAX, what="all threads taken")
        gate.opened.set()
        await asyncio.gather(*creating)
    assert (len(gate.compiled), gate.peak) == (7, COMPILATIONS_AT_ONCE_MAX)


async def test_an_edit_while_another_is_compiled_is_not_lost(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    with gated(service) as gate:
        slow = asyncio.create_task(update_email(tenant, campaign.id, "email.html", content=SLOW))
        await eventually(lambda: gate.inside == 1, what="it is being compiled")
        quick = email_content(preheader="A new one")
        await update_email(tenant, campaign.id, "email.preheader", content=quick)
        gate.opened.set()
        changed = await slow
    assert (changed.email.html, changed.email.preheader) == (SLOW.html, "A new one")
    compiled = await service.pool.fetchval("SELECT compiled FROM campaign_content")
    assert b"SLOW" in compiled
    assert b"A new one" in compiled
    forms = [(content.preheader, "SLOW" in str(content.body)) for content in gate.compiled]
    assert forms == [("", True), ("A new one", False), ("A new one", True)]


async def test_edits_at_once_lose_nothing(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    new = email_content(subject="S", preheader="P", text="T {{unsubscribe_url}}", html=f"H{LINK}")
    new.reply_to.address = "re@example.com"
    await asyncio.gather(
        *(
            update_email(tenant, campaign.id, f"email.{field}", content=new)
            for field in ("subject", "preheader", "text", "html", "reply_to")
        ),
        update_email(tenant, campaign.id, "name", name="B"),
    )
    changed = await tenant.get(campaign.id)
    assert (changed.email, changed.name) == (new, "B")
    compiled = await service.pool.fetchval("SELECT compiled FROM campaign_content")
    for part in (b'"subject":"S"', b'"preheader":"P"', b"T t", b"H<a"):
        assert part in compiled


async def test_an_edit_gives_up_when_others_keep_changing_the_template(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await create_email(tenant)
    loop = asyncio.get_running_loop()
    seen: list[str] = []

    def changed_meanwhile(content: EmailContent) -> Compilation:
        seen.append(content.subject)
        change = service.pool.execute(
            "UPDATE campaign_content SET content = jsonb_set(content, '{subject}', to_jsonb($1::text))",
            f"Subject {len(seen)}",
        )
        asyncio.run_coroutine_threadsafe(change, loop).result(30)
        return compilation_of_email(content)

    service.parts.campaigns._compiler = TemplateCompiler(changed_meanwhile)
    async with refused("ETAG_MISMATCH"):
        await update_email(
            tenant, campaign.id, "email.html", content=email_content(html=f"x{LINK}")
        )
    assert seen == ["Hi {{name}}", *(f"Subject {n}" for n in range(1, ROUNDS_MAX))]
    assert (await tenant.get(campaign.id)).email.html == campaign.email.html


async def test_a_run_that_comes_first_wins_over_an_edit(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    with gated(service) as gate:
        slow = asyncio.create_task(update_email(tenant, campaign.id, "email.html", content=SLOW))
        await eventually(lambda: gate.inside == 1, what="it is being compiled")
        ran = await tenant.run(campaign.id)
        gate.opened.set()
        async with refused("ACTION_NOT_ALLOWED"):
            await slow
    assert (await tenant.get(campaign.id)).email == ran.email


async def test_a_repeated_request_gets_the_first_answer(service: Service) -> None:
    tenant = await email_tenant(service)
    create = campaign_pb2.CreateCampaignRequest(
        campaign=campaign_pb2.Campaign(
            name="x", channel=channel_pb2.CHANNEL_EMAIL, email=email_content()
        ),
        request_id=str(uuid4()),
    )
    answers = await asyncio.gather(
        *(tenant.call(tenant.campaigns.CreateCampaign, create) for _ in range(5))
    )
    assert len({answer.id for answer in answers}) == 1
    campaign_id = answers[0].id
    update = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign_id, email=email_content(subject="New {{name}}")),
        update_mask=FieldMask(paths=["email.subject"]),
        request_id=str(uuid4()),
    )
    changed = await tenant.call(tenant.campaigns.UpdateCampaign, update)
    await service.put_contacts(tenant, campaign_id, [["Ada"]])
    await tenant.run(campaign_id)
    # It may not be edited any more; what was answered stands.
    assert await tenant.call(tenant.campaigns.UpdateCampaign, update) == changed


async def test_a_large_template_is_compiled_while_others_are_served(service: Service) -> None:
    """Without a gate: the compiler's own work leaves the loop to others."""
    tenant = await email_tenant(service)
    rows = "".join(f'<tr class="c{n % 50}"><td>{n}</td></tr>' for n in range(6_000))
    styles = "".join(f".c{n} td {{ color: #0000{n:02x} }}" for n in range(50))
    content = email_content(html=f"<style>{styles}</style><table>{rows}</table>{LINK}")
    creating = asyncio.create_task(create_email(tenant, content))
    served = 0
    while not creating.done():
        await tenant.disclaimer_version()
        served += 1
    assert (await creating).email_size.html_bytes > 100_000
    assert served > 5
