"""Whom a test goes to, its values, and its mark."""

import pytest

from outreach.email.blocks import Html
from outreach.email.compile import compile_email
from outreach.errors import Violation
from services.campaign.domain import test_send as domain
from services.campaign.domain.content import EmailContent, SmsContent

MAX = 1_600


def checked(*given: str) -> tuple[list[str], list[tuple[str, str]]]:
    def destination(text: str) -> str | None:
        return text.strip() if "@" in text else None

    def identity(recipient: str) -> bytes:
        return recipient.lower().encode()

    recipients, violations = domain.check_recipients(given, destination, identity, "No address.")
    return recipients, [(violation.field, violation.reason) for violation in violations]


def test_recipients_are_given_as_they_are_sent_to() -> None:
    assert checked(" a@x", "b@x") == (["a@x", "b@x"], [])
    assert checked(*(f"{n}@x" for n in range(10)))[1] == []


@pytest.mark.parametrize("number", [11, 1_000])
def test_too_many_recipients_are_one_violation(number: int) -> None:
    wrong = checked(*(f"{n}@x" for n in range(number)))[1]
    assert wrong == [("recipients", "FIELD_OUT_OF_RANGE")]


def test_every_recipient_that_is_wrong_is_named_by_its_place_alone() -> None:
    given = ["a@x", "secret", "A@x", "b@x", "a@X"]
    assert checked(*given)[1] == [(f"recipients[{n}]", "FIELD_INVALID") for n in (1, 2, 4)]
    _, violations = domain.check_recipients(given, lambda _: None, str.encode, "No address.")
    assert not any("secret" in f"{violation}" for violation in violations)


def values(given: dict[str, str]) -> list[Violation]:
    return domain.check_values(given, ("name", "city"), bytes_max=4)


def test_values_are_of_variables_that_there_are_and_not_too_long() -> None:
    assert values({}) == []
    assert values({"name": "ää", "city": ""}) == []
    (violation,) = values({"name": "äää"})
    assert (violation.field, violation.reason) == ("values.name", "FIELD_TOO_LONG")
    (violation,) = values({"Name": "x"})
    assert (violation.field, violation.reason) == ("values.Name", "FIELD_UNKNOWN")


def test_what_is_no_name_is_not_repeated() -> None:
    (violation,) = values({"+4179 the number of somebody": "x"})
    assert violation.field == "values"
    assert "4179" not in violation.text


def test_variables_are_the_columns_and_what_else_the_template_names() -> None:
    assert domain.all_names(("b", "a"), ("c", "a")) == ("b", "a", "c")


@pytest.mark.parametrize(
    ("characters", "is_marked"), [(1, True), (MAX - 7, True), (MAX - 6, False), (MAX + 1, False)]
)
def test_an_sms_is_marked_unless_it_would_be_too_long_by_it(
    characters: int, is_marked: bool
) -> None:
    content = SmsContent(body="{{text}}", validity_seconds=60)
    marked = domain.marked_sms(content, ("text",), ["x" * characters])
    assert marked.content.body == ("[Test] {{text}}" if is_marked else "{{text}}")
    assert marked.content.validity_seconds == 60


def test_the_segments_are_those_of_the_marked_text() -> None:
    content = SmsContent(body="{{text}}")
    # The brackets are of the extension table: the mark takes nine units.
    assert domain.marked_sms(content, ("text",), ["x" * 151]).segments == 1
    assert domain.marked_sms(content, ("text",), ["x" * 152]).segments == 2


def test_a_missing_value_stays_missing_behind_the_mark() -> None:
    marked = domain.marked_sms(SmsContent(body="{{a}}"), ("a",), [None])
    assert marked.content.body == "[Test] {{a}}"


@pytest.mark.parametrize(("characters", "is_marked"), [(990, True), (991, True), (992, False)])
def test_an_email_is_marked_in_its_subject_unless_it_would_be_too_long_by_it(
    characters: int, is_marked: bool
) -> None:
    html = '<p>{{a}}</p><a href="{{unsubscribe_url}}">Stop</a>'
    compiled = compile_email(Html(html), subject="{{a}}", variable_names=None)
    content = EmailContent(subject="{{a}}")
    marked = domain.marked_email(content, compiled, ("a",), ["x" * characters])
    rendered = marked.compiled.bind(("a",)).render(["y"], "https://example.com/u")
    assert rendered.subject == ("[Test] y" if is_marked else "y")
    assert marked.content.subject == ("[Test] {{a}}" if is_marked else "{{a}}")
    assert marked.compiled.html == compiled.html
