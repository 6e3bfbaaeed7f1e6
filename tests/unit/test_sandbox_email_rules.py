"""The rules of mail/send: what is refused, and where the error says it is."""

import contextlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.journal import Journal
from services.sandbox.sendgrid.account import ASM_GROUPS
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.look_ups import BadQuery, LookUps, parsed_query
from services.sandbox.sendgrid.validation import Draft, RequestRefused, validated
from tests.sandbox_email_parts import SENDER, mail, personalization

NOW = 1_800_000_000.0


def errors_of(request: Any) -> list[tuple[str | None, str]]:
    try:
        validated(request, NOW, ASM_GROUPS)
    except RequestRefused as refused:
        return [(error.field, error.message) for error in refused.errors]
    return []


def fields_of(request: Any) -> list[str | None]:
    return [field for field, _ in errors_of(request)]


def with_first(**more: Any) -> dict[str, Any]:
    return mail(personalizations=[personalization("ada@example.org", **more)])


def test_a_full_request_is_taken() -> None:
    request = mail(
        reply_to={"email": "reply@example.org", "name": "Us; or, others"},
        headers={"List-Unsubscribe": "<https://u.example>", "X-Campaign": "7"},
        categories=["a", "b"],
        custom_args={"campaign": "c"},
        asm={"group_id": 1, "groups_to_display": [1, 2]},
        send_at=int(NOW) + 3_600,
        tracking_settings={"click_tracking": {"enable": False}},
        attachments=[
            {
                "content": b64encode(b"x").decode(),
                "filename": "a.txt",
                "type": "text/plain",
                "disposition": "inline",
                "content_id": "c1",
            }
        ],
        personalizations=[
            personalization(
                "ada@example.org",
                cc=[{"email": "c@example.org"}],
                bcc=[{"email": "d@example.org"}],
                subject="Own",
                headers={"X-Own": "1"},
                substitutions={"%name%": "Ada"},
            )
        ],
    )
    draft = validated(request, NOW, ASM_GROUPS)
    assert isinstance(draft, Draft)
    assert draft.recipients == [["ada@example.org", "c@example.org", "d@example.org"]]
    assert draft.senders() == {SENDER}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"personalizations": None}, "personalizations"),
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": ["x"]}, "personalizations.0"),
        ({"from": None}, "from.email"),
        ({"from": {"email": "nobody"}}, "from.email"),
        ({"from": {"email": "ünï@outreach.example"}}, "from.email"),
        ({"from": {"email": SENDER, "name": "a\r\nBcc: b"}}, "from.name"),
        ({"subject": ""}, "subject"),
        ({"subject": 7}, "subject"),
        ({"subject": "a\nBcc: x"}, "subject"),
        ({"content": []}, "content"),
        ({"content": None}, "content"),
        ({"content": [{"type": "text/html", "value": ""}]}, "content.0.value"),
        ({"content": [{"type": "text/html; charset=x", "value": "x"}]}, "content.0.type"),
        ({"content": ["x"]}, "content.0.type"),
        ({"template_id": "d-1"}, "template_id"),
        ({"reply_to": {"email": "x"}}, "reply_to.email"),
        ({"reply_to": "x"}, "reply_to.email"),
        ({"reply_to_list": []}, "reply_to_list"),
        ({"reply_to_list": [{"email": "a@b.org"}], "reply_to": {"email": "a@b.org"}},
         "reply_to_list"),
        ({"headers": {"Subject": "x"}}, "headers.Subject"),
        ({"headers": {"X-SG-EID": "x"}}, "headers.X-SG-EID"),
        ({"headers": {"X Y": "x"}}, "headers.X Y"),
        ({"headers": {"X-Ü": "x"}}, "headers.X-Ü"),
        ({"headers": {"X-A": 1}}, "headers.X-A"),
        ({"headers": {"X-A": "a\r\nBcc: b"}}, "headers.X-A"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers"),
        ({"headers": []}, "headers"),
        ({"categories": [str(at) for at in range(11)]}, "categories"),
        ({"categories": ["x" * 256]}, "categories.0"),
        ({"categories": ["é"]}, "categories.0"),
        ({"categories": ["a", "a"]}, "categories"),
        ({"categories": "a"}, "categories"),
        ({"custom_args": {"a": 1}}, "custom_args"),
        ({"asm": {"group_id": "1"}}, "asm.group_id"),
        ({"asm": {"group_id": 99}}, "asm.group_id"),
        ({"asm": {"group_id": 1, "groups_to_display": list(range(26))}}, "asm.groups_to_display"),
        ({"send_at": "now"}, "send_at"),
        ({"send_at": int(NOW) + 72 * 3_600 + 1}, "send_at"),
        ({"attachments": [{"filename": "a", "content": "&&"}]}, "attachments.0.content"),
        ({"attachments": [{"filename": "a", "content": "YQ"}]}, "attachments.0.content"),
        ({"attachments": [{"content": "YQ=="}]}, "attachments.0.filename"),
        ({"attachments": [{"filename": "a\nb", "content": "YQ=="}]}, "attachments.0.filename"),
        ({"attachments": [{"filename": "a", "content": "YQ==", "disposition": "x"}]},
         "attachments.0.disposition"),
        ({"attachments": "x"}, "attachments"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_named(change: dict[str, Any], field: str) -> None:
    assert fields_of(mail("ada@example.org", **change)) == [field]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"to": []}, "to"),
        ({"to": None}, "to"),
        ({"to": [{"email": "ada@nowhere"}]}, "to.0.email"),
        ({"to": [{"email": "a@b.org"}, {"name": "x"}]}, "to.1.email"),
        ({"to": [{"email": "ada@example.org\r\n"}]}, "to.0.email"),
        ({"to": [{"email": "ada@example.org", "name": "A, B"}]}, "to.0.name"),
        ({"cc": [{"email": "x"}]}, "cc.0.email"),
        ({"cc": "x"}, "cc"),
        ({"bcc": [{"email": 7}]}, "bcc.0.email"),
        ({"substitutions": {"%a%": 1}}, "substitutions"),
        ({"substitutions": {"%a%": "x" * 9_998}}, "substitutions"),
        ({"substitutions": {"%a%": "€" * 3_333}}, "substitutions"),
        ({"substitutions": {f"%{at}%": "" for at in range(151)}}, "substitutions"),
        ({"custom_args": {"a": None}}, "custom_args"),
        ({"custom_args": {"a": "x" * 10_000}}, "custom_args"),
        ({"headers": {"To": "x"}}, "headers.To"),
        ({"subject": ""}, "subject"),
        ({"send_at": 1.5}, "send_at"),
        ({"from": {"email": "x"}}, "from.email"),
        ({"filters": {}}, "filters"),
    ],
)
def test_a_personalization_is_named_by_its_place(more: dict[str, Any], field: str) -> None:
    request = mail(
        personalizations=[
            *(personalization(f"a{at}@example.org") for at in range(3)),
            personalization("ada@example.org", **more),
        ]
    )
    assert fields_of(request) == [f"personalizations.3.{field}"]


def test_limits_themselves_are_kept() -> None:
    most = {"%a%": "x" * 9_997}
    assert not errors_of(with_first(substitutions=most))
    assert not errors_of(with_first(substitutions={"%a%": "€" * 3_332}))
    assert not errors_of(mail(*(f"a{at}@example.org" for at in range(1_000))))
    ((field, message),) = errors_of(mail(*(f"a{at}@example.org" for at in range(1_001))))
    assert field == "personalizations"
    assert "limited to 1000 personalizations" in message
    copies = [{"email": f"c{at}@example.org"} for at in range(1_000)]
    ((field, message),) = errors_of(with_first(cc=copies))
    assert (field, "1000 total recipients" in message) == ("personalizations", True)


def test_an_address_may_stand_only_once_in_a_request() -> None:
    ((field, message),) = errors_of(mail("ada@example.org", "bob@example.org", "ADA@Example.org"))
    assert field == "personalizations"
    assert "[ada@example.org] more than once" in message
    ((field, message),) = errors_of(with_first(cc=[{"email": "Ada@example.org"}]))
    assert field == "personalizations.0"
    assert "personalizations.0.cc field" in message


def test_a_subject_may_come_from_every_personalization() -> None:
    request = with_first(subject="Own")
    del request["subject"]
    assert not errors_of(request)
    request["personalizations"].append(personalization("bob@example.org"))
    assert fields_of(request) == ["subject"]


def test_plain_text_comes_first() -> None:
    html, text = {"type": "text/html", "value": "x"}, {"type": "text/plain", "value": "x"}
    calendar = {"type": "text/calendar", "value": "x"}
    assert not errors_of(mail("a@b.org", content=[text, html, calendar]))
    assert not errors_of(mail("a@b.org", content=[html]))
    for wrong in ([html, text], [calendar, html]):
        assert fields_of(mail("a@b.org", content=wrong)) == ["content"]


def test_all_errors_are_told_together() -> None:
    request = mail("x", "bob@example.org", "y", subject="")
    assert fields_of(request) == [
        "personalizations.0.to.0.email",
        "personalizations.2.to.0.email",
        "subject",
    ]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["email", "to", "type", "value", "headers", "group_id", "content"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
_KEYS = ["personalizations", "from", "reply_to", "reply_to_list", "subject", "content", "asm"]
_MORE_KEYS = ["attachments", "headers", "categories", "custom_args", "send_at", "mail_settings"]


@given(name=st.sampled_from(_KEYS + _MORE_KEYS), value=_JSON)
def test_nothing_that_is_json_breaks_the_rules_themselves(name: str, value: Any) -> None:
    errors_of(mail("ada@example.org", **{name: value}))


@given(value=_JSON, name=st.sampled_from(["to", "cc", "substitutions", "custom_args", "headers"]))
def test_nor_does_anything_inside_a_personalization(name: str, value: Any) -> None:
    errors_of(with_first(**{name: value}))


@given(query=st.text(alphabet="to_email=<>LIKEAND IN()[]'\"\\%,ab", max_size=60))
def test_no_text_breaks_the_reading_of_queries(query: str) -> None:
    with contextlib.suppress(BadQuery):
        parsed_query(query)


def test_a_query_is_read_in_full() -> None:
    query = """to_email = "a\\"b" AND status IN ('x', "y") and (unique_args["k k"]='v')
        AND last_event_time >= TIMESTAMP "2026-01-01T00:00:00Z" AND msg_id LIKE 'x%'"""
    assert parsed_query(query) == [
        ("to_email", "", "=", ('a"b',)),
        ("status", "", "IN", ("x", "y")),
        ("unique_args", "k k", "=", ("v",)),
        ("last_event_time", "", ">=", ("2026-01-01T00:00:00Z",)),
        ("msg_id", "", "LIKE", ("x%",)),
    ]
    assert parsed_query("  ") == []


def test_an_attempt_that_was_never_accepted_is_looked_for_in_no_other_email(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look-up of one would keep all other requests waiting for as long as reading the ledger takes."""
    ledger = EmailLedger(Journal(None))

    def read_all(_: str | None = None) -> Iterator[int]:
        raise AssertionError("every email is read")

    monkeypatch.setattr(ledger, "newest_first", read_all)
    look_ups = LookUps(ledger, lambda: 0.0)
    assert look_ups.messages("(unique_args['attempt_id']=\"nobody\")", 1) == []
    with pytest.raises(AssertionError):
        look_ups.messages("(unique_args['campaign']=\"c\")", 1)
