"""What became of a test send, now or once senders are done with it."""

import asyncio
from uuid import UUID

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from services.campaign.store import Connection, Pool
from services.campaign.store import test_sends as store
from services.campaign.store.test_sends import TestSendRecord
from services.campaign.watch.feed import wait
from services.campaign.watch.hub import WatchHub


async def require_test_send(
    connection: Connection, caller: Caller, test_send_id: UUID
) -> TestSendRecord:
    """The test send, or TEST_SEND_NOT_FOUND: also when it is another organisation's."""
    found = await store.get_test_send(connection, caller.organisation_id, test_send_id)
    if found is None:
        raise OutreachError(
            "TEST_SEND_NOT_FOUND",
            f"There is no test send with this id; they are kept for {store.KEPT_DAYS} days.",
        )
    return found


async def get_test_send(pool: Pool, caller: Caller, test_send_id: UUID) -> TestSendRecord:
    """As it is now. TEST_SEND_NOT_FOUND."""
    async with pool.acquire() as connection:
        return await require_test_send(connection, caller, test_send_id)


async def handed_over_test_send(
    pool: Pool, hub: WatchHub, caller: Caller, test_send_id: UUID, *, until_seconds: float
) -> TestSendRecord:
    """As it is when senders are done with it, at `until_seconds` of the loop's clock, or when the
    service stops: whichever comes first. TEST_SEND_NOT_FOUND.
    """
    loop = asyncio.get_running_loop()

    def is_told(found: TestSendRecord) -> bool:
        return found.is_handed_over or hub.is_draining or loop.time() >= until_seconds

    found = await get_test_send(pool, caller, test_send_id)
    if is_told(found):
        return found
    async with hub.campaign(test_send_id, 0) as feed:
        while True:
            # Taken before the look, so that a commit after it is not missed.
            news = feed.news
            found = await get_test_send(pool, caller, test_send_id)
            if is_told(found):
                return found
            await wait(news, until_seconds - loop.time())
