"""A retry of very many messages in one call: `python -m bench.retry_rate [messages]` (300,000).

The messages are put where they have to be in the database (all FAILED once, all CANCELLED once), the call is the
public one, and the campaign is stopped at once afterwards. Beside it what the same rows take as one bare UPDATE.
"""

import asyncio
import sys
import time
from uuid import UUID

import asyncpg
import uvloop

from bench.campaigns import imported_campaign, stack_options
from bench.sink import sink
from outreach.client import OutreachClient
from outreach.local.stack import LocalStack
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import CampaignStatus, MessageStatus

_SET_MESSAGES = """
UPDATE message SET status = $2, failure_reason = $3, attempt = attempt + $4, run = 1, update_time = now()
WHERE campaign_id = $1
"""
_SET_CAMPAIGN = """
UPDATE campaign
SET waiting = 0, queued = 0, sending = 0, sent = 0, assumed_delivered = 0, failed = $2, cancelled = $3, status = $4,
    holds_channel = false, run = greatest(run, 1), end_time = now(), stop_time = NULL
WHERE id = $1
"""


async def put(connection: asyncpg.Connection, campaign_id: UUID, status: MessageStatus) -> float:
    """All messages to this status; returns the seconds that the bare UPDATE took."""
    failed = status is MessageStatus.FAILED
    async with connection.transaction():
        total = await connection.fetchval(
            "SELECT total FROM campaign WHERE id = $1 FOR UPDATE", campaign_id
        )
        began = time.perf_counter()
        await connection.execute(
            _SET_MESSAGES, campaign_id, status, 2 if failed else None, int(failed), timeout=300
        )
        seconds = time.perf_counter() - began
        await connection.execute(
            _SET_CAMPAIGN,
            campaign_id,
            total if failed else 0,
            0 if failed else total,
            CampaignStatus.COMPLETE_WITH_ERRORS if failed else CampaignStatus.COMPLETE,
        )
    await connection.execute("VACUUM ANALYZE message", timeout=300)
    return seconds


async def stopped(client: OutreachClient, campaign_id: str) -> float:
    """Stop it; the seconds until nothing is queued any more."""
    began = time.perf_counter()
    await client.stop_campaign(campaign_id)
    seconds = 0.0
    while True:
        campaign = await client.get_campaign(campaign_id)
        if not seconds and not campaign.counts.queued:
            seconds = time.perf_counter() - began
        if campaign.status != campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS:
            return seconds
        await asyncio.sleep(0.1)


async def main(messages: int) -> None:
    async with sink() as url, LocalStack(stack_options(url)) as stack, stack.client() as client:
        campaign = await imported_campaign(client, messages)
        version = (await client.get_disclaimer()).version
        connection = await asyncpg.connect(stack.postgres_dsn)
        try:
            print(
                f"{'from':>10} {'messages':>9} {'bare UPDATE s':>14} {'retry s':>8} {'rows/s':>9}"
                f" {'all stopped s':>14}"
            )
            for status in (MessageStatus.FAILED, MessageStatus.CANCELLED):
                bare_seconds = await put(connection, UUID(campaign.id), status)
                began = time.perf_counter()
                answer = await client.retry_messages(
                    campaign.id,
                    accepted_disclaimer_version=version,
                    statuses=[message_pb2.MessageStatus.ValueType(status)],
                )
                seconds = time.perf_counter() - began
                assert answer.retried == messages
                stop_seconds = await stopped(client, campaign.id)
                print(
                    f"{status.name:>10} {answer.retried:>9,} {bare_seconds:>14.1f} {seconds:>8.1f}"
                    f" {answer.retried / seconds:>9,.0f} {stop_seconds:>14.1f}",
                    flush=True,
                )
        finally:
            await connection.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000))
