"""Twilio's published magic numbers: each answers with one error, whatever the account's state.

Source: https://www.twilio.com/docs/iam/test-credentials. Twilio knows them under test credentials
only; the sandbox always does.
"""

MAGIC_TO = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
"""Recipient → error code."""

MAGIC_FROM = {
    "+15005550001": 21212,
    "+15005550007": 21606,
    "+15005550008": 21611,
}
"""Sender → error code."""

VALID_FROM = "+15005550006"
"""The sender that always works."""
