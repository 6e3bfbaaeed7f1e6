"""The organisation's list of recipients that opted out: look, add, remove."""

from dataclasses import dataclass

from outreach.errors import OutreachError, Violation
from outreach.recipients import recipient_hash
from outreach.rpc.call import Caller
from outreach.vocabulary import Channel
from services.campaign.contacts.destinations import INVALID_RECIPIENT, destination_check
from services.campaign.store import Connection
from services.campaign.store import suppressions as store
from services.campaign.store.suppressions import SuppressionRecord


@dataclass(frozen=True, slots=True)
class Person:
    """A recipient of a channel: as it is sent to, and the keyed hash that stands for it."""

    channel: Channel
    recipient: str
    hash: bytes


def person_of(key: bytes, channel: Channel, recipient: str) -> tuple[Person | None, str]:
    """None, and what is wrong with it, when it can't be a recipient of the channel."""
    checked = destination_check(channel)(recipient)
    if checked is None:
        return None, INVALID_RECIPIENT[channel]
    return Person(channel, checked, recipient_hash(key, channel, checked)), ""


async def get_suppression(
    connection: Connection, caller: Caller, person: Person
) -> SuppressionRecord:
    """SUPPRESSION_NOT_FOUND."""
    found = await store.get_suppression(
        connection, caller.organisation_id, person.channel, person.hash
    )
    if found is None:
        raise _not_found(person)
    return found


async def create_suppression(
    connection: Connection, caller: Caller, person: Person
) -> SuppressionRecord:
    """As it is on the list now; one that was there before stayed as it was."""
    await store.add_suppression(
        connection, caller.organisation_id, person.channel, person.hash, person.recipient
    )
    return await get_suppression(connection, caller, person)


async def delete_suppression(connection: Connection, caller: Caller, person: Person) -> None:
    """SUPPRESSION_NOT_FOUND."""
    if not await store.remove_suppression(
        connection, caller.organisation_id, person.channel, person.hash
    ):
        raise _not_found(person)


def _not_found(person: Person) -> OutreachError:
    # Never the recipient itself: an error is logged, and shown to others.
    text = f"The recipient is not suppressed on {person.channel.name}."
    return OutreachError(
        "SUPPRESSION_NOT_FOUND",
        text,
        metadata={"channel": person.channel.name},
        violations=[Violation("recipient", "SUPPRESSION_NOT_FOUND", text)],
    )
