"""What the person who runs a campaign declares, each time. Pure."""

import hashlib

#: The four points, in order (product rules: "What can be done, and when").
DISCLAIMER_POINTS = (
    "All recipients of this campaign have consented to be contacted by us on this channel.",
    "The content is lawful and fits the audience that it is sent to.",
    "SMS carries opt-out instructions, email an unsubscribe link; nobody on the list opted out.",
    "We are responsible for the contacts' data and for having the right to use it.",
)

#: Names this very text: any change of a word makes another version.
DISCLAIMER_VERSION = hashlib.sha256("\n".join(DISCLAIMER_POINTS).encode()).hexdigest()[:16]
