"""What the campaign service does on NATS: wake-ups after commit, and streams that are always there."""

import asyncio
from uuid import UUID, uuid4

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from outreach.jetstream.connection import nats_connection
from outreach.jetstream.topology import INBOX_STREAM, JOBS_STREAM, event_subject
from services.campaign.app import keep_topology
from services.campaign.wakeups import NatsWakeups
from tests.campaign_service import NO_NATS_URL, campaign_service
from tests.waiting import eventually


async def test_a_committed_change_wakes_watchers_with_its_revision(
    database_dsn: str, nats_url: str
) -> None:
    async with campaign_service(database_dsn, nats_url) as service:
        await service.parts.nats.connected()
        tenant = await service.tenant()
        campaign = await service.ready(tenant)
        async with nats_connection(nats_url, name="watcher") as watcher:
            await watcher.connected()
            heard: asyncio.Queue[bytes] = asyncio.Queue()

            async def hear(message: Msg) -> None:
                await heard.put(message.data)

            subject = event_subject(tenant.organisation_id, UUID(campaign.id))
            await watcher.client.subscribe(subject, cb=hear)
            await watcher.client.flush()
            ran = await tenant.run(campaign.id)
            assert await asyncio.wait_for(heard.get(), 60) == str(ran.revision).encode()


async def test_a_run_without_nats_is_no_error(database_dsn: str) -> None:
    async with campaign_service(database_dsn, NO_NATS_URL) as service:
        tenant = await service.tenant()
        campaign = await service.ready(tenant)
        assert (await tenant.run(campaign.id)).run == 1
        assert not service.parts.nats.is_connected
        await NatsWakeups(service.parts.nats).campaign_changed(uuid4(), uuid4(), 1)


async def test_a_wiped_nats_gets_its_streams_back(nats_url: str) -> None:
    async with nats_connection(nats_url, name="tests") as nats, asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep_topology(nats))

        async def consumers() -> bool:
            try:
                found = [
                    await nats.jetstream.consumers_info(stream)
                    for stream in (JOBS_STREAM, INBOX_STREAM)
                ]
            except NotFoundError:
                return False
            # One a channel, and that of the suppressions for SendGrid.
            return [len(infos) for infos in found] == [2, 3]

        await nats.connected()

        async def made() -> list[str]:
            infos = [await nats.jetstream.stream_info(name) for name in (JOBS_STREAM, INBOX_STREAM)]
            return [str(info.created) for info in infos]

        await eventually(consumers, 60, "streams")
        before = await made()
        await nats.jetstream.delete_stream(JOBS_STREAM)
        await nats.jetstream.delete_stream(INBOX_STREAM)
        # Made again at any moment, perhaps already.
        await eventually(consumers, 60, "streams again")
        assert not set(before) & set(await made())
        keeping.cancel()
