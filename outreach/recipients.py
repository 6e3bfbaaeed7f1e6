"""Who a recipient is: the form recipients are compared in, and the keyed hash that stands for one.

The hash is what duplicates and suppressions are compared by, and all that is kept of an erased
person.
"""

import hmac

from outreach.vocabulary import Channel

RECIPIENT_HASH_BYTES = 16


def normalise_recipient(channel: Channel, recipient: str) -> str:
    """The form in which two recipients are the same: email in lower case, a phone number as it is
    (strict E.164).
    """
    return recipient.lower() if channel is Channel.EMAIL else recipient


def recipient_hash(key: bytes, channel: Channel, recipient: str) -> bytes:
    r"""The first 16 bytes of HMAC-SHA256(key, channel name + "\\0" + normalised recipient)."""
    if not key:
        raise ValueError("the recipient hash needs a key")
    message = f"{channel.name}\0{normalise_recipient(channel, recipient)}".encode()
    return hmac.digest(key, message, "sha256")[:RECIPIENT_HASH_BYTES]
