"""How fast a page of messages comes: `python -m bench.message_pages [messages] [rounds]` (300,000 and 30).

ListMessages over gRPC, with the campaign service as a process of its own: the first, a middle and the last page of each
filter, of 100 and of 1,000 messages, beside a bare SELECT of the same rows in the same run. The messages were written
three times, as a run does.
"""

import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import asyncpg
import uvloop

from bench.import_rate import campaign_service
from outreach.client import OutreachClient
from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.v1 import campaign_pb2, message_pb2
from outreach.v1.failure_reason_pb2 import FAILURE_REASON_UNREACHABLE

SIZES = (100, 1_000)
AIM_MILLISECONDS = 50.0
S = message_pb2.MessageStatus

FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "status (9 of 10)": {"statuses": [S.MESSAGE_STATUS_DELIVERED]},
    "status (1 of 10)": {"statuses": [S.MESSAGE_STATUS_FAILED]},
    "status (1 in all, at the end)": {"statuses": [S.MESSAGE_STATUS_OPTED_OUT]},
    "reason": {"failure_reasons": [FAILURE_REASON_UNREACHABLE]},
    "run": {"run": 1},
    "recipient": {"recipient": "+15000123456"},
    "part of recipient, rare": {"recipient_contains": "0123456"},
    "part of recipient, all": {"recipient_contains": "1500"},
    "part, status, reason, run": {
        "recipient_contains": "777",
        "statuses": [S.MESSAGE_STATUS_FAILED],
        "failure_reasons": [FAILURE_REASON_UNREACHABLE],
        "run": 1,
    },
}

SELECT = """
SELECT m.*, c.recipient, c.variables FROM message m JOIN contact c USING (campaign_id, number)
WHERE campaign_id = $1 AND number = ANY ($2::int[]) ORDER BY number
"""


async def filled(connection: Any, client: OutreachClient, messages: int) -> str:
    """The id of a campaign that has ended; one message in ten failed, and the last one is opted out."""
    campaign = await client.create_campaign(
        name="Pages", sms=campaign_pb2.SmsContent(body="Hello {{name}}")
    )
    hash_ = "sha256(('x' || n)::bytea)"
    # The recipients of the filters have the service's own hash, which only it can make: by an import.
    upload = await client.upload_contacts(
        campaign.id, b"phone,name\n+15000123456,Ada\n", consent_confirmed=True
    )
    await client.import_contacts(campaign.id, upload.id)
    key = UUID(campaign.id)
    await connection.execute("UPDATE contact SET number = $1", messages // 2)
    await connection.execute("DELETE FROM message")
    await connection.execute(
        "INSERT INTO contact SELECT $1, n, '+1500' || lpad((n + 1000000)::text, 7, '0'), "
        f"{hash_}, ARRAY['Name ' || n] FROM generate_series(1, $2::int) n WHERE n <> $2::int / 2",
        *(key, messages),
    )
    await connection.execute(
        "INSERT INTO message (campaign_id, number, status) SELECT $1, n, 2 FROM generate_series(1, $2::int) n",
        *(key, messages),
    )
    for status in (3, 4, 6):
        await connection.execute(
            "UPDATE message SET status = $1, attempt = 1, run = 1, claim_time = now(),"
            " provider_message_id = 'SM' || md5(number::text)",
            status,
        )
        await connection.execute("VACUUM message")
    await connection.execute(
        "UPDATE message SET status = 8, failure_reason = 1 + number / 10 % 3 WHERE number % 10 = 0"
    )
    await connection.execute(
        "UPDATE message SET status = 9, failure_reason = NULL WHERE number = $1", messages
    )
    await connection.execute(
        "UPDATE campaign SET run = 1, status = 6, waiting = 0, total = $1, failed = $1 / 10 - 1,"
        " opted_out = 1, delivered = $1 - $1 / 10, start_time = now(), end_time = now()",
        messages,
    )
    await connection.execute("VACUUM ANALYZE")
    return campaign.id


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """Milliseconds, and what it gave."""
    began = time.perf_counter()
    result = await work()
    return (time.perf_counter() - began) * 1000, result


async def tokens(client: OutreachClient, campaign_id: str, **where: Any) -> list[str]:
    """The token of every page of 1,000, the first being empty; a smaller page may begin there too."""
    found, token = [""], ""
    while True:
        page = await client.list_messages(campaign_id, page_size=1_000, page_token=token, **where)
        token = page.next_page_token
        if not token:
            return found
        found.append(token)


def figures(milliseconds: list[float]) -> str:
    return f"{median(milliseconds):>7.1f} {quantiles(milliseconds, n=100)[98]:>7.1f}"


async def measured(
    connection: Any, client: OutreachClient, campaign_id: str, rounds: int, **request: Any
) -> tuple[list[float], list[float], int]:
    """Milliseconds of the page's calls and of the bare statement, and the page's rows."""
    calls, bare, rows = [], [], 0
    for _ in range(rounds):
        spent, page = await timed(lambda: client.list_messages(campaign_id, **request))
        calls.append(spent)
        numbers = [message.number for message in page.messages]
        rows = len(numbers)
        spent, _found = await timed(
            lambda numbers=numbers: connection.fetch(SELECT, UUID(campaign_id), numbers)  # type: ignore[misc]
        )
        bare.append(spent)
    return calls, bare, rows


async def main(messages: int, rounds: int) -> int:
    server = EmbeddedPostgres(temporary_data_dir())
    worst = 0.0
    try:
        async with server, campaign_service(server.dsn) as service:
            connection: Any = await asyncpg.connect(server.dsn)
            client, campaign_id = service.client, await filled(connection, service.client, messages)
            print(f"{messages:,} messages, {rounds} rounds; milliseconds p50 p99")
            print(
                f"{'filter':30} {'page':>10} {'rows':>5} {'ListMessages':>15} {'bare SELECT':>15}"
            )
            for name, where in FILTERS.items():
                pages = await tokens(client, campaign_id, **where)
                for at in sorted({0, len(pages) // 2, len(pages) - 1}):
                    for size in SIZES:
                        request = {"page_size": size, "page_token": pages[at], **where}
                        calls, bare, found = await measured(
                            connection, client, campaign_id, rounds, **request
                        )
                        worst = max(worst, median(calls))
                        place = f"{at + 1}/{len(pages)}"
                        print(
                            f"{name:30} {place:>10} {found:>5} {figures(calls)} {figures(bare)}",
                            flush=True,
                        )
            await connection.close()
    finally:
        shutil.rmtree(server.data_dir)
    print(f"the slowest page's p50: {worst:.1f} ms (aim: below {AIM_MILLISECONDS:.0f} ms)")
    return 0 if worst < AIM_MILLISECONDS else 1


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    sys.exit(uvloop.run(main(*(given + [300_000, 30][len(given) :]))))
