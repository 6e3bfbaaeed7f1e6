"""What a run looks like that does not come to its end."""

from __future__ import annotations

import asyncpg

from chaos.record.settling import inbox_entries, pending_webhooks
from chaos.stack import ChaosStack

_CAMPAIGNS = """
SELECT name, channel, status, run, revision, waiting, queued, sending, sent, retrying, delivered,
       assumed_delivered, failed, opted_out, cancelled, total, dispatched_through, undispatched
FROM campaign WHERE test_of IS NULL ORDER BY id
"""
_LOOK_SECONDS_MAX = 5.0


async def describe_hang(stack: ChaosStack) -> str:
    """The state of everything, on one line each."""
    local = stack.local
    lines = ["the run does not come to its end"]
    down = [name for name in local.process_names if local.supervisor.pid(name) is None]
    lines.append(f"processes that are down: {', '.join(down) or 'none'}")
    async with local.sandbox_client() as sandbox:
        lines.append(f"webhooks that the provider has to make: {await pending_webhooks(sandbox)}")
    lines.append(f"entries in the inbox: {await inbox_entries(local.nats_url)}")
    try:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            local.postgres_dsn, timeout=_LOOK_SECONDS_MAX
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        return "\n  ".join([*lines, f"PostgreSQL: {error!r}"])
    try:
        rows = await connection.fetch(_CAMPAIGNS)
    finally:
        await connection.close()
    lines += [", ".join(f"{name} {value}" for name, value in row.items() if value) for row in rows]
    return "\n  ".join(lines)
