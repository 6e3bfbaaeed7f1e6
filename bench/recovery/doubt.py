"""What a killed sender leaves in doubt: how many messages, and when it is known what became of them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from bench.recovery.traffic import Traffic
from outreach.sending.journal import JOURNAL_SUFFIX, AttemptKey, read_journal
from outreach.vocabulary import Channel

RESOLVED_SECONDS_MAX = 60.0
_SENDERS = {
    Channel.SMS: ("sender-sms-1", "sender-journal"),
    Channel.EMAIL: ("sender-email-1", "sender-email-journal"),
}
_DOWN_SECONDS = 0.5

# The product keeps an attempt in `unknown_attempt` as long as it is one. What was in it, and when
# it left, is noted by the database itself: a poll would miss what is settled in milliseconds.
_NOTE_UNKNOWN = """
CREATE TABLE bench_unknown (
    campaign_id uuid, number int, attempt int, since timestamptz, resolved timestamptz,
    PRIMARY KEY (campaign_id, number, attempt)
);
CREATE FUNCTION bench_note_unknown() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE bench_unknown SET resolved = clock_timestamp()
        WHERE (campaign_id, number, attempt) = (OLD.campaign_id, OLD.number, OLD.attempt);
    ELSE
        INSERT INTO bench_unknown VALUES (NEW.campaign_id, NEW.number, NEW.attempt, clock_timestamp())
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER bench_note_unknown AFTER INSERT OR UPDATE OF attempt OR DELETE ON unknown_attempt
FOR EACH ROW EXECUTE FUNCTION bench_note_unknown();
"""
_UNKNOWN = """
SELECT campaign_id, number, attempt, extract(epoch FROM since)::float AS since,
       extract(epoch FROM resolved)::float AS resolved
FROM bench_unknown
"""


@dataclass(frozen=True)
class Doubt:
    """What one kill of a sender left.

    Attributes:
        in_flight: messages whose request had begun and had no outcome in the dead sender's journal.
        unknown: messages that the product held to be in doubt by this kill.
        resolved_seconds: of those, from the kill until it was known what became of them; those
            for which that took longer than `RESOLVED_SECONDS_MAX` are missing.
    """

    channel: Channel
    in_flight: int
    unknown: int
    resolved_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Doubts:
    """All kills.

    Attributes:
        stray: messages in doubt that were in no killed sender's flight.
        sent_again: attempts, or recipients, that the provider's ledger accepted more than once.
    """

    kills: tuple[Doubt, ...]
    stray: int
    sent_again: int


async def doubts(traffic: Traffic, kills: int) -> Doubts:
    """Kill the senders in turn, and follow what was in doubt."""
    await _on_database(traffic, _NOTE_UNKNOWN)
    done: list[tuple[Channel, float, set[AttemptKey]]] = []
    for number in range(kills):
        channel = list(_SENDERS)[number % len(_SENDERS)]
        await traffic.steady()
        done.append(await _kill(traffic, channel))
    await asyncio.sleep(done[-1][1] + RESOLVED_SECONDS_MAX - time.time())
    rows = {_key(row): row for row in await _rows(traffic)}
    flights = set[AttemptKey]().union(*(keys for _, _, keys in done))
    return Doubts(
        tuple(_doubt(channel, killed, keys, rows) for channel, killed, keys in done),
        stray=len(rows.keys() - flights),
        sent_again=await _sent_again(traffic),
    )


async def _kill(traffic: Traffic, channel: Channel) -> tuple[Channel, float, set[AttemptKey]]:
    name, journal_dir = _SENDERS[channel]
    begun: set[AttemptKey] = set()

    async def read_its_journal() -> None:
        for path in (traffic.stack.data_dir / journal_dir).glob(f"*{JOURNAL_SUFFIX}"):
            begun.update(read_journal(path.read_bytes()).begun)

    killed, _ = await traffic.kill(name, down_seconds=_DOWN_SECONDS, while_down=read_its_journal)
    return channel, killed, begun


def _doubt(
    channel: Channel,
    killed: float,
    keys: set[AttemptKey],
    rows: Mapping[AttemptKey, asyncpg.Record],
) -> Doubt:
    unknown = [rows[key] for key in keys & rows.keys()]
    seconds = [row["resolved"] - killed for row in unknown if row["resolved"] is not None]
    return Doubt(
        channel,
        len(keys),
        len(unknown),
        tuple(sorted(s for s in seconds if s <= RESOLVED_SECONDS_MAX)),
    )


def _key(row: asyncpg.Record) -> AttemptKey:
    return UUID(str(row["campaign_id"])).bytes, row["number"], row["attempt"]


async def _rows(traffic: Traffic) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(traffic.stack.postgres_dsn)
    try:
        return await connection.fetch(_UNKNOWN)
    finally:
        await connection.close()


async def _on_database(traffic: Traffic, statements: str) -> None:
    connection = await asyncpg.connect(traffic.stack.postgres_dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _sent_again(traffic: Traffic) -> int:
    again = "attempts_accepted_more_than_once", "recipients_accepted_more_than_once"
    async with traffic.stack.sandbox_client() as sandbox:
        ledgers = await sandbox.ledger(), await sandbox.email_ledger()
    return sum(ledger[name] for ledger in ledgers for name in again)
