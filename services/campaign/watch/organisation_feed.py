"""The running campaigns of one organisation, read once for all who watch them."""

import time
from collections import OrderedDict, deque
from uuid import UUID

import asyncpg

from outreach.errors import OutreachError
from outreach.v1 import campaign_pb2
from services.campaign.rpc.convert import load_campaign, load_campaigns
from services.campaign.store import Connection
from services.campaign.watch.feed import POLL_SECONDS, QUERIES, Feed

#: Ends of campaigns that are kept for watchers that have not taken them yet.
ENDINGS_MAX = 256
#: Ends that are remembered as told. More can't come within the time that `ended_lately` looks back.
NOTED_MAX = 1_000


class OrganisationFeed(Feed):
    """What runs now, and what has ended lately. Campaigns are shared by the watchers: not to be changed."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", organisation_id: UUID) -> None:
        super().__init__()
        self._pool = pool
        self._organisation_id = organisation_id
        self.running: dict[str, campaign_pb2.Campaign] = {}
        self._endings: deque[campaign_pb2.Campaign] = deque(maxlen=ENDINGS_MAX)
        #: Ends noticed so far; a watcher keeps the number that it has been told.
        self.endings_count = 0
        # The run whose end was noticed, by campaign.
        self._noted: OrderedDict[str, int] = OrderedDict()
        self._looks_begun = 0
        self._looks_done = 0
        self._search_due_seconds = 0.0

    def ask(self) -> int:
        """Have it look now; gives what `has_looked` wants."""
        self.wake.set()
        return self._looks_begun + 1

    def has_looked(self, number: int) -> bool:
        """Whether a look that began after `ask` is done: what was committed before `ask` is in `running`."""
        return self._looks_done >= number

    def endings_after(self, count: int) -> list[campaign_pb2.Campaign]:
        """Campaigns whose end was noticed after the first `count`, in order; the last ENDINGS_MAX at most."""
        new = self.endings_count - count
        return list(self._endings)[-new:] if new > 0 else []

    async def _look(self) -> bool:
        self._looks_begun += 1
        look, first = self._looks_begun, self._looks_done == 0
        async with self._pool.acquire() as connection:
            running = {
                campaign.id: campaign
                for campaign in await load_campaigns(
                    connection, self._organisation_id, running_only=True
                )
            }
            endings = await self._endings_of(
                connection, {*self.running} - {*running} | await self._ended_lately(connection)
            )
        # In one step, so that no watcher sees half of it.
        self.running = running
        for campaign in endings:
            self._noted[campaign.id] = campaign.run
            self._noted.move_to_end(campaign.id)
            if not first:  # what ended before anyone watched is no news
                self._endings.append(campaign)
                self.endings_count += 1
        while len(self._noted) > NOTED_MAX:
            self._noted.popitem(last=False)
        self._looks_done = look
        self.tell()
        return False

    async def _ended_lately(self, connection: Connection) -> set[str]:
        """Also campaigns that began and ended between two looks. Sought every second only, as it reads more."""
        now = time.monotonic()
        if now < self._search_due_seconds:
            return set()
        rows = await connection.fetch(QUERIES["ended_lately"], self._organisation_id)
        self._search_due_seconds = now + POLL_SECONDS
        return {str(row["id"]) for row in rows}

    async def _endings_of(
        self, connection: Connection, campaign_ids: set[str]
    ) -> list[campaign_pb2.Campaign]:
        """As they are now, those whose end was not noticed before. Ids are in the order of creation."""
        endings = []
        for campaign_id in sorted(campaign_ids):
            try:
                campaign = await load_campaign(connection, self._organisation_id, UUID(campaign_id))
            except OutreachError:
                continue  # deleted already
            runs_again = campaign.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
            if not runs_again and self._noted.get(campaign_id) != campaign.run:
                endings.append(campaign)
        return endings
