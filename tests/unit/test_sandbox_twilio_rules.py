from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from services.sandbox.fates import fate_of
from services.sandbox.journal import Journal
from services.sandbox.knob_store import KnobStore
from services.sandbox.knobs import Knobs
from services.sandbox.twilio.ledger import Accepted, MessageLedger, attempt_of
from services.sandbox.twilio.retry_policy import retry_delay_seconds, retry_policy
from services.sandbox.twilio.signature import signature
from services.sandbox.twilio.validation import valid_callback
from services.sandbox.webhooks import Failure, split_url


@given(
    st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=40), max_size=8),
    st.text(min_size=1, max_size=40),
)
def test_the_signature_is_the_one_of_twilios_library(fields: dict[str, str], token: str) -> None:
    url = "https://hooks.example.com/twilio/status/abc-DEF_1?x=1"
    expected = RequestValidator(token).compute_signature(url, fields)
    assert signature(token.encode(), url, sorted(fields.items())) == expected


@pytest.mark.parametrize(
    ("fragment", "outcome", "retries"),
    [
        ("", Failure.CONNECT, 1),
        ("", Failure.READ, 0),
        ("", 500, 0),
        ("rc=5&rp=all", 500, 5),
        ("rc=5&rp=all", 404, 5),
        ("rc=5&rp=all", Failure.READ, 5),
        ("rc=5&rp=all", 204, 0),
        ("rc=0&rp=all", 500, 0),
        ("rc=2&rp=5xx,rt", 503, 2),
        ("rc=2&rp=5xx,rt", 404, 0),
        ("rc=2&rp=5xx,rt", Failure.CONNECT, 0),
        ("rc=9&rp=5xx", 500, 1),
        ("rc=x&rp=nonsense", Failure.CONNECT, 1),
    ],
)
def test_retries_are_what_the_fragment_says(
    fragment: str, outcome: int | Failure, retries: int
) -> None:
    policy = retry_policy(fragment)
    assert [policy.allows(outcome, made) for made in range(6)] == [
        made < retries for made in range(6)
    ]


def test_five_retries_cover_the_time_with_growing_waits() -> None:
    waits = [retry_delay_seconds(made, 15.0) for made in range(5)]
    assert sum(waits) == pytest.approx(15.0)
    assert waits == sorted(waits)
    assert retry_policy("ct=200&rt=300").connect_timeout_seconds == 0.2
    assert retry_policy("ct=200&rt=300").read_timeout_seconds == 0.3


@pytest.mark.parametrize(
    ("url", "valid"),
    [
        ("https://hooks.example.com/x#rc=5", True),
        ("http://127.0.0.1:8080/x", True),
        ("ftp://example.com/x", False),
        ("https://under_score.example.com/x", False),
        ("https:///x", False),
        ("/relative", False),
        ("https://example.com:99999/", False),
        (f"https://example.com/{'a' * 4_000}", False),
    ],
)
def test_callback_urls_are_checked(url: str, valid: bool) -> None:
    assert valid_callback(url) is valid


def test_urls_are_split_into_origin_and_target() -> None:
    origin, target = split_url("http://example.com:81/a/b?c=d#rc=5")
    assert (origin.host, origin.port, target) == ("example.com", 81, "/a/b?c=d")
    assert split_url("https://example.com")[1] == "/"
    assert split_url("https://example.com?x=1")[1] == "/?x=1"
    assert split_url("https://example.com")[0].port == 443
    assert attempt_of("http://example.com/status/abc?x=1#rc=5") == "abc"
    assert attempt_of("") is None


def _message(to: str, attempt: str) -> Accepted:
    return Accepted(
        arrived=999.5,
        created=1_000.0,
        to=to,
        body="Grüße 👋",
        sender="+15005550006",
        with_service=True,
        callback=f"http://127.0.0.1/status/{attempt}",
        segments=1,
        fate=fate_of(Knobs(), "s", to),
        steps=0b1111,
        steps_twice=0b0001,
    )


def test_the_ledger_survives_with_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    journal = Journal(path)
    ledger = MessageLedger(journal)
    for number in range(3):
        ledger.accept(_message(f"+1512555000{number}", f"attempt-{number}"))
    ledger.accept(_message("+15125550000", "attempt-0"))
    ledger.opt("+15125550001", out=True)
    ledger.note_done([0])
    assert ledger.first_try("+15125550002")
    sids = [ledger.sid(number) for number in range(4)]
    totals = ledger.totals()
    journal.close()

    with path.open("ab") as file:
        file.write(b'["accepted",1000.0,"+15125')
    journal = Journal(path)
    again = MessageLedger(journal)
    assert again.totals() == {**totals, "messages_with_pending_callbacks": 3}
    assert [again.sid(number) for number in range(4)] == sids
    assert [again.number_of(sid) for sid in sids] == [0, 1, 2, 3]
    assert again.number_of("SM" + "0" * 32) is None
    assert again.contents(2).body == "Grüße 👋"
    assert again.opted_out == {"+15125550001"}
    assert not again.first_try("+15125550002")
    assert list(again.newest_first("+15125550000", 10)) == [3, 0]
    row = again.row(3, 2_000.0)
    assert (row.accepted_count, row.status, row.arrived) == (2, "delivered", 999.5)
    assert again.totals()["attempts_accepted_more_than_once"] == 1
    assert again.totals()["recipients_accepted_more_than_once"] == 1
    assert again.accept(_message("+15125550009", "attempt-9")) == 4
    assert again.contents(4).callback.endswith("attempt-9")

    again.reset()
    assert again.totals()["accepted"] == 0
    assert again.number_of(sids[0]) is None
    again.accept(_message("+15125550000", "attempt-0"))
    assert again.sid(0) != sids[0]
    journal.close()


def test_a_message_moves_through_its_statuses_in_time(tmp_path: Path) -> None:
    journal = Journal(None)
    ledger = MessageLedger(journal)
    number = ledger.accept(_message("+15125550000", "a"))
    delay = fate_of(Knobs(), "s", "+15125550000").final_delay_seconds
    seen = [ledger.status(number, 1_000.0 + delay * part)[0] for part in (0, 0.15, 0.3, 0.6, 1.1)]
    assert seen == ["accepted", "queued", "sending", "sent", "delivered"]
    assert [step for _, step in sorted(ledger.callbacks(number))] == [0, 0, 1, 2, 3]
    journal.close()


def test_kept_knobs_of_another_version_are_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "knobs.json"
    KnobStore(Knobs(), "s", path).set(Knobs(latency_ms=7))
    assert KnobStore(Knobs(), "s", path).knobs.latency_ms == 7
    path.write_text('{"initial": {}, "current": {"a_knob_of_the_past": 1}}')
    assert KnobStore(Knobs(latency_ms=1), "s", path).knobs.latency_ms == 1
