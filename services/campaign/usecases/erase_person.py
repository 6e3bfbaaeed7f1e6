"""Remove a person's data from every campaign of the organisation, and keep a keyed hash of them.

In many transactions, one for each batch of a campaign's messages (ADR 4), so that campaigns that run
are not held up. Each step can be repeated: a call that broke off is made again, and does the rest.
"""

import asyncio
import codecs
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from outreach.rpc.call import Caller
from services.campaign.contacts.destinations import spellings
from services.campaign.delivery.changes import Wakeups, lock_campaign
from services.campaign.store import Pool
from services.campaign.store import erasures as store
from services.campaign.store.contacts import get_chunk
from services.campaign.store.erasures import PendingUpload, PersonsCampaign
from services.campaign.store.suppressions import suppress_erased
from services.campaign.usecases.suppressions import Person


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done; test sends are erased too and counted nowhere."""

    campaigns: int = 0
    contacts: int = 0
    opted_out: int = 0
    under_way: int = 0


async def erase_person(pool: Pool, wakeups: Wakeups, caller: Caller, person: Person) -> Erased:
    """Also of somebody who is in no campaign: their hash is suppressed from then on.

    Files of contacts that wait for their import are removed when the person is in them.
    """
    # First, so that no sender is given the person any more.
    async with pool.acquire() as connection:
        await suppress_erased(connection, caller.organisation_id, person.channel, person.hash)
    # Before the contacts: an import that is under way now has made contacts of its file then.
    await _discard_uploads(pool, caller, person)
    async with pool.acquire() as connection:
        campaigns = await store.campaigns_of_person(
            connection, caller.organisation_id, person.channel, person.hash
        )
    erased = Erased()
    for campaign in campaigns:
        erased = _sum(erased, await _erase_in(pool, wakeups, campaign, person))
    async with pool.acquire() as connection:
        await store.empty_answers(connection, caller.organisation_id, person.recipient.lower())
    return erased


async def _erase_in(
    pool: Pool, wakeups: Wakeups, campaign: PersonsCampaign, person: Person
) -> Erased:
    """Batch by batch: a file may have had the person in many rows."""
    contacts, opted_out, under_way = 0, 0, 0
    while True:
        async with pool.acquire() as connection, connection.transaction():
            locked = await lock_campaign(connection, campaign.id)
            if locked is None:
                break  # deleted meanwhile, with all that was theirs
            numbers = await store.erase_contacts(connection, campaign.id, person.hash)
            if not numbers:
                break
            messages = await store.erase_messages(connection, locked, numbers)
        await wakeups.campaign_changed(locked.organisation_id, campaign.id, messages.revision)
        contacts += len(numbers)
        opted_out += messages.opted_out
        under_way += messages.under_way
    if campaign.is_test or not contacts:
        return Erased()
    return Erased(1, contacts, opted_out, under_way)


def _sum(one: Erased, other: Erased) -> Erased:
    return Erased(
        one.campaigns + other.campaigns,
        one.contacts + other.contacts,
        one.opted_out + other.opted_out,
        one.under_way + other.under_way,
    )


async def _discard_uploads(pool: Pool, caller: Caller, person: Person) -> None:
    async with pool.acquire() as connection:
        uploads = await store.pending_uploads(connection, caller.organisation_id, person.channel)
    for upload in uploads:
        if await _is_in(pool, upload, person):
            async with pool.acquire() as connection, connection.transaction():
                await store.discard_upload(connection, upload)


async def _is_in(pool: Pool, upload: PendingUpload, person: Person) -> bool:
    search = _Search(upload.encoding, spellings(person.channel, person.recipient))
    ordinal = 0
    while True:
        async with pool.acquire() as connection:
            chunk = await get_chunk(connection, upload.id, ordinal)
        if chunk is None:
            return False
        if await asyncio.to_thread(search.finds, chunk):
            return True
        ordinal += 1


class _Search:
    """Looks for a recipient, by any of its spellings, in a file's text, piece by piece."""

    def __init__(self, encoding: str, recipients: Collection[str]) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        # Not within a longer one. At the end of a piece that can't be told: then it is taken for one.
        sought = "|".join(map(re.escape, recipients))
        self._pattern = re.compile(rf"(?<![\w.+-])(?:{sought})(?![\w-])")
        self._overlap = max(map(len, recipients))
        self._rest = ""

    def finds(self, piece: bytes) -> bool:
        text = unicodedata.normalize("NFC", self._rest + self._decoder.decode(piece).lower())
        # What stands at the beginning of a whole rest was looked at before, with what is before it.
        start = 1 if len(self._rest) == self._overlap else 0
        self._rest = text[-self._overlap :]
        return self._pattern.search(text, start) is not None
