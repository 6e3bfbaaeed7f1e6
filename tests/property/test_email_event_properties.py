"""A message's events in any order and number, what is kept of them, entries and links that were tampered with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial, reduce
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outreach.failures.sendgrid import CLASSIFICATIONS, DROPS
from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import AttemptId, InvalidToken, TokenKey, UnsubscribeId
from outreach.sending.inbox import InboxEntry
from outreach.sending.outcomes import AttemptOutcome, merged
from outreach.vocabulary import OUTCOME_RANK, Channel, Outcome
from services.campaign.delivery.reports import fold
from services.sender_email.event_fields import kept_fields
from services.sender_email.events import interpret
from services.sender_email.reasons import PROVIDER_CODE_CHARACTERS_MAX, event_outcome

KEY = TokenKey("a key of at least thirty-two characters")
ORGANISATION = UUID("01a20890-074e-777d-9543-4c0f9cd8fde3")
CAMPAIGN = UUID("01a20890-074e-777d-9543-4c0f9cd8fde4")

merged_email = partial(merged, channel=Channel.EMAIL)

texts = st.text(max_size=80)
optional = st.none() | texts | st.integers() | st.lists(texts, max_size=2)
bounces = st.fixed_dictionaries(
    {"event": st.just("bounce")},
    optional={
        "type": st.sampled_from(["bounce", "blocked", "expired"]) | optional,
        "bounce_classification": st.sampled_from(sorted(CLASSIFICATIONS)) | optional,
        "status": st.sampled_from(["5.1.1", "4.2.2", "5.0.0", "550"]) | optional,
        "reason": st.sampled_from(["550 5.1.1 a@b.example", "552 full"]) | optional,
    },
)
drops = st.fixed_dictionaries(
    {"event": st.just("dropped")}, optional={"reason": st.sampled_from(sorted(DROPS)) | optional}
)
others = st.fixed_dictionaries(
    {
        "event": st.sampled_from(
            ["processed", "deferred", "delivered", "open", "click", "spamreport", "unsubscribe"]
        )
    },
    optional={"sg_message_id": optional},
)
events = bounces | drops | others


def stored(event: dict[str, object], number: int = 1) -> InboxEntry:
    """The event as it comes out of the inbox."""
    kept = kept_fields(event)
    assert kept is not None
    attempt = AttemptId(ORGANISATION, CAMPAIGN, number, 1)
    entry = InboxEntry(ORGANISATION, attempt, kept, datetime(2026, 11, 25, tzinfo=UTC))
    decoded = InboxEntry.decode(orjson.loads(orjson.dumps(entry.encode())))
    assert decoded == entry
    return decoded


def outcomes_of(told: Sequence[dict[str, object]]) -> list[AttemptOutcome]:
    meanings = [interpret(stored(event)) for event in told]
    return [meaning for meaning in meanings if isinstance(meaning, AttemptOutcome)]


@settings(deadline=None)
@given(st.lists(events, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_events_fold_to_the_same_outcome_in_any_order_and_number(
    told: list[dict[str, object]], chance: random.Random
) -> None:
    """In the sender's reporter, in the campaign service, and in both one after the other."""
    once = outcomes_of(told)
    if not once:
        return
    expected = max((one.outcome for one in once), key=OUTCOME_RANK[Channel.EMAIL].__getitem__)
    repeated = [*told, *chance.choices(told, k=chance.randint(0, 8))]
    chance.shuffle(repeated)
    outcomes = outcomes_of(repeated)
    assert reduce(merged_email, outcomes).outcome is expected
    (learned,) = fold((outcome.to_report() for outcome in outcomes), Channel.EMAIL).values()
    assert learned.outcome is expected
    cut = chance.randint(1, len(outcomes))
    batches = [reduce(merged_email, part) for part in (outcomes[:cut], outcomes[cut:]) if part]
    (learned,) = fold((outcome.to_report() for outcome in batches), Channel.EMAIL).values()
    assert learned.outcome is expected


def test_a_bounce_beats_the_delivery_before_it_and_a_delivery_the_deferral() -> None:
    told: list[dict[str, object]] = [
        {"event": kind} for kind in ("bounce", "open", "delivered", "deferred", "processed")
    ]
    for gone, outcome in (
        (0, Outcome.FAILED),
        (1, Outcome.DELIVERED),
        (3, Outcome.DEFERRED),
        (4, Outcome.ACCEPTED),
    ):
        assert reduce(merged_email, outcomes_of(told[gone:])).outcome is outcome


@settings(deadline=None)
@given(events)
def test_what_is_kept_means_the_same_and_no_more_is_kept_of_it(event: dict[str, object]) -> None:
    kept = kept_fields(event)
    assert kept is not None
    assert kept_fields(kept) == kept
    assert event_outcome(kept) == event_outcome(event)
    assert "@" not in "".join(kept.values())
    assert max(map(len, kept.values())) <= 128
    proved = event_outcome(event)
    if proved is not None:
        assert len(proved[2]) <= PROVIDER_CODE_CHARACTERS_MAX
        assert (proved[1] is not None) == (proved[0] is Outcome.FAILED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["event", "type", "status", "reason", "sg_message_id", "other"]),
        json_values,
    )
)
def test_any_object_is_an_event_or_none(event: dict[str, object]) -> None:
    kept = kept_fields(event)
    assert (kept is None) or kept["event"]
    event_outcome(event)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["organisation_id", "campaign_id", "number", "attempt", "fields", "time"]),
        json_values | st.just(str(ORGANISATION)) | st.just({"event": "delivered"}),
    )
)
def test_any_object_is_an_entry_that_can_be_reported_or_none(raw: dict[str, object]) -> None:
    """One that raised something else would come again and again, and take every sender down."""
    try:
        meaning = interpret(InboxEntry.decode(raw))
    except (ValueError, KeyError, TypeError):
        return
    if isinstance(meaning, AttemptOutcome):
        report = meaning.to_report()
        assert delivery_pb2.Report.FromString(report.SerializeToString()) == report


hashes = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(st.uuids(), st.uuids(), numbers, hashes)
def test_an_unsubscribe_token_says_what_was_signed(
    organisation: UUID, campaign: UUID, number: int, recipient: bytes
) -> None:
    token = KEY.sign_unsubscribe(organisation.bytes, campaign.bytes, number, recipient)
    assert KEY.read_unsubscribe(token) == UnsubscribeId(organisation, campaign, number, recipient)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(token) == 83
    with pytest.raises(InvalidToken):
        KEY.read_attempt(token)
    with pytest.raises(InvalidToken):
        KEY.read_organisation(token)
    with pytest.raises(InvalidToken):
        TokenKey("another key of thirty-two characters!").read_unsubscribe(token)


@settings(deadline=None)
@given(hashes, st.integers(0, 83), st.sampled_from("AZaz09-_é=+/"))
def test_a_changed_unsubscribe_token_is_refused(
    recipient: bytes, place: int, character: str
) -> None:
    token = KEY.sign_unsubscribe(ORGANISATION.bytes, CAMPAIGN.bytes, 1, recipient)
    changed = token[:place] + character + token[place + 1 :]
    if changed == token:
        return
    with pytest.raises(InvalidToken):
        KEY.read_unsubscribe(changed)


@pytest.mark.parametrize("recipient", [b"", b"x" * 15, b"x" * 17])
def test_only_whole_hashes_are_signed(recipient: bytes) -> None:
    with pytest.raises(ValueError, match="hash"):
        KEY.sign_unsubscribe(ORGANISATION.bytes, CAMPAIGN.bytes, 1, recipient)


def test_tokens_stay_what_they_are() -> None:
    """They are in URLs that were sent: another spelling would lose their receipts."""
    attempt = KEY.sign_attempt(ORGANISATION.bytes, CAMPAIGN.bytes, 7, 2)
    assert attempt == "AaIIkAdOd32VQ0wPnNj94wGiCJAHTnd9lUNMD5zY_eQAAAAHAAAAAtpODLeNjuDAKiI"
    assert KEY.sign_organisation(ORGANISATION) == "AaIIkAdOd32VQ0wPnNj947dBVyqZStO5Ot8"
    long = TokenKey("k" * 100)  # longer than a block of the hash
    assert long.sign_organisation(ORGANISATION) == "AaIIkAdOd32VQ0wPnNj941vW7hQmlyKnqDo"


def test_a_retired_key_still_reads_and_does_not_sign() -> None:
    old = "the former key of thirty-two characters"
    new = TokenKey("the new key of at least thirty-two chars", retired=["x" * 32, old])
    link = TokenKey(old).sign_unsubscribe(ORGANISATION.bytes, CAMPAIGN.bytes, 1, b"h" * 16)
    assert new.read_unsubscribe(link).recipient_hash == b"h" * 16
    assert new.read_organisation(TokenKey(old).sign_organisation(ORGANISATION)) == ORGANISATION
    with pytest.raises(InvalidToken):
        TokenKey(old).read_organisation(new.sign_organisation(ORGANISATION))
    with pytest.raises(ValueError, match="32"):
        TokenKey(old, retired=["short"])
