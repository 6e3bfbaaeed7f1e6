"""The latest commits of one campaign, read once from the change log for all who watch it."""

from collections import deque
from itertools import islice
from uuid import UUID

import asyncpg

from outreach.errors import OutreachError
from services.campaign.watch.feed import QUERIES, Feed

#: Commits read at once, and the message changes after which a read ends (a commit is never split).
READ_COMMITS_MAX = 500
CHANGES_TOGETHER_MAX = 5_000
#: What is kept in memory; who is further behind reads the log itself.
KEPT_COMMITS_MAX = 2_000
KEPT_CHANGES_MAX = 50_000

Commits = list[asyncpg.Record]


class CampaignFeed(Feed):
    """Commits after `start` up to `tail`, all of them, in order.

    Revisions are consecutive and are committed in order under the lock on the campaign's row, so
    "all after the last one" can miss none, and a gap means that the log was pruned.
    """

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", campaign_id: UUID, revision: int
    ) -> None:
        """`revision`: a recent one, from which on commits are kept."""
        super().__init__()
        self._pool = pool
        self._campaign_id = campaign_id
        self._kept: deque[asyncpg.Record] = deque()
        self._kept_changes = 0
        self.start = revision
        self.tail = revision
        self._deleted = False

    async def after(self, position: int) -> Commits:
        """The next commits after a revision, of about CHANGES_TOGETHER_MAX changes; empty: none yet.

        RESUME_TOKEN_EXPIRED when the log does not go back so far any more, CAMPAIGN_NOT_FOUND when
        the campaign was deleted; raises the store's errors.
        """
        if self._deleted:
            raise OutreachError("CAMPAIGN_NOT_FOUND", "The campaign was deleted.")
        if position < self.start:
            commits = await read_commits(self._pool, self._campaign_id, position)
            if not commits or commits[0]["revision"] != position + 1:
                raise resume_token_expired()
            return commits
        commits, changes = [], 0
        for commit in islice(self._kept, position - self.start, None):
            if changes >= CHANGES_TOGETHER_MAX:
                break
            commits.append(commit)
            changes += len(commit["numbers"])
        return commits

    async def _look(self) -> bool:
        commits = await read_commits(self._pool, self._campaign_id, self.tail)
        if not commits:
            exists = await self._pool.fetchval(QUERIES["campaign_exists"], self._campaign_id)
            if not exists:
                self._deleted = True
                self.tell()
            return False
        if commits[0]["revision"] != self.tail + 1:
            # Pruned before it was read. Whoever is behind the gap finds it and is told so.
            self._kept.clear()
            self._kept_changes = 0
            self.start = commits[0]["revision"] - 1
        self.tail = commits[-1]["revision"]
        self._kept.extend(commits)
        changes = sum(len(commit["numbers"]) for commit in commits)
        self._kept_changes += changes
        while len(self._kept) > KEPT_COMMITS_MAX or (
            self._kept_changes > KEPT_CHANGES_MAX and len(self._kept) > 1
        ):
            oldest = self._kept.popleft()
            self._kept_changes -= len(oldest["numbers"])
            self.start = oldest["revision"]
        self.tell()
        return len(commits) >= READ_COMMITS_MAX or changes >= CHANGES_TOGETHER_MAX


async def read_commits(
    pool: "asyncpg.Pool[asyncpg.Record]", campaign_id: UUID, position: int
) -> Commits:
    """From the log, those after `position`."""
    commits: Commits = await pool.fetch(
        QUERIES["changes_after"], campaign_id, position, READ_COMMITS_MAX, CHANGES_TOGETHER_MAX
    )
    return commits


def resume_token_expired() -> OutreachError:
    """What came after a token can't be told any more."""
    return OutreachError(
        "RESUME_TOKEN_EXPIRED",
        "What came after the token is not kept any more. Watch without a token and list again.",
    )
