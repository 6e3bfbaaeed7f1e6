import pytest

from outreach.template.placeholders import (
    MalformedTemplate,
    Placeholder,
    UnknownPlaceholder,
    parse_template,
    validate_placeholders,
)
from outreach.template.sms import SMS_CHARACTERS_MAX, check_sms_template, is_sms_too_long


@pytest.mark.parametrize(
    ("text", "values", "rendered"),
    [
        ("Hi {{name}}!", ["Ann"], "Hi Ann!"),
        ("Hi {{ name }}!", ["Ann"], "Hi Ann!"),
        ("Hi {{\tname\n}}!", ["Ann"], "Hi Ann!"),
        ("{{name}}", ["Ann"], "Ann"),
        ("{{name}}{{name}}", ["Ann"], "AnnAnn"),
        ("Hi {{name|you}}!", ["Ann"], "Hi Ann!"),
        ("Hi {{name|you}}!", [None], "Hi you!"),
        ("Hi {{name|you}}!", [""], "Hi you!"),
        ("Hi {{ name | dear customer }}!", [None], "Hi dear customer!"),
        ("Hi {{name|}}!", [None], "Hi !"),
        ("{{name|a|b}}", [None], "a|b"),
        ("{{name|{x}}}", [None], "{x}"),
        ("{{name|a\nb}}", [None], "a\nb"),
        # The product's rule: delivered as it stands, spaces and all.
        ("Hi {{ name }}!", [None], "Hi {{ name }}!"),
        ("Hi {{name}}!", [""], "Hi {{name}}!"),
        # A value is never parsed again.
        ("{{name}}", ["{{name}}"], "{{name}}"),
        ("{{name}}", ["{{name"], "{{name"),
        # Text, not placeholders.
        ("a { b } c", ["Ann"], "a { b } c"),
        ("}} closes nothing", ["Ann"], "}} closes nothing"),
        ("{name}", ["Ann"], "{name}"),
        ("{ {name} }", ["Ann"], "{ {name} }"),
        ("100 % {{name}} } }} {", ["Ann"], "100 % Ann } }} {"),
        ("", ["Ann"], ""),
    ],
)
def test_rendering(text: str, values: list[str | None], rendered: str) -> None:
    assert parse_template(text).bind(["name"]).render(values) == rendered


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("Hi {{ 1x }}", ["{{ 1x }}"]),
        ("Hi {{}}", ["{{}}"]),
        ("Hi {{  }}", ["{{  }}"]),
        ("Hi {{|you}}", ["{{|you}}"]),
        ("Hi {{first name}}", ["{{first name}}"]),
        ("Hi {{größe}}", ["{{größe}}"]),
        ("Hi {{a-b}}", ["{{a-b}}"]),
        ("Hi {{name", ["{{name"]),
        ("Hi {{name}", ["{{name}"]),
        ("Hi {{a {{b}}", ["{{a "]),
        ("{{1}} {{ok}} {{2}}", ["{{1}}", "{{2}}"]),
        ("{{{name}}}", ["{{{name}}"]),
        ("{{#if x}}", ["{{#if x}}"]),
        ("{{ name | x {{ y }}", ["{{ name | x "]),
    ],
)
def test_malformed_placeholders_are_named(text: str, sources: list[str]) -> None:
    with pytest.raises(MalformedTemplate) as caught:
        parse_template(text)
    assert [place.source for place in caught.value.places] == sources
    assert all(text[place.position :].startswith("{{") for place in caught.value.places)


def test_a_long_malformed_placeholder_is_cut_in_the_message() -> None:
    with pytest.raises(MalformedTemplate) as caught:
        parse_template("{{" + "x" * 5_000)
    assert len(caught.value.places[0].text) < 100


def test_a_template_knows_its_parts() -> None:
    template = parse_template("a {{x}} b {{ y |z}}{{x}}")
    assert template.names == ("x", "y")
    assert template.literals == ("a ", " b ", "", "")
    assert template.placeholders[1] == Placeholder("y", "z", "{{ y |z}}")
    assert template.rendered_characters_min == len("a  b ") + 3


def test_unknown_placeholders_are_listed_once_in_order() -> None:
    template = parse_template("{{b}}{{a}}{{b}}{{c}}")
    assert validate_placeholders(template, ["a"]) == ["b", "c"]
    assert validate_placeholders(template, ["a", "B", "b", "c"]) == []
    with pytest.raises(UnknownPlaceholder) as caught:
        template.bind(["a"])
    assert caught.value.names == ("b", "c")


def test_columns_are_taken_by_place() -> None:
    bound = parse_template("{{c}}-{{a}}").bind(["a", "b", "c"])
    assert bound.render(["1", "2", "3"]) == "3-1"


def test_missing_names_what_has_no_value_and_no_fallback() -> None:
    bound = parse_template("{{a}} {{b|x}} {{c}} {{c|y}}").bind(["a", "b", "c"])
    assert bound.missing([None, None, ""]) == ("a", "c")
    assert bound.missing(["1", None, "3"]) == ()


def test_rendering_does_not_remember_the_contact_before() -> None:
    bound = parse_template("{{a}} {{b|x}}").bind(["a", "b"])
    assert bound.render(["1", "2"]) == "1 2"
    assert bound.render([None, None]) == "{{a}} x"


@pytest.mark.parametrize(
    ("body", "names", "reasons"),
    [
        ("Hello", None, []),
        ("Hello {{name}}", None, []),
        ("Hello {{name}}", ["name"], []),
        ("Hello {{name}} {{x}} {{y}}", ["name"], ["TEMPLATE_UNKNOWN_PLACEHOLDER"] * 2),
        ("", None, ["TEMPLATE_EMPTY"]),
        (" \n\t", None, ["TEMPLATE_EMPTY"]),
        ("{{", None, ["TEMPLATE_MALFORMED"]),
        ("{{1}}{{2}}", None, ["TEMPLATE_MALFORMED"] * 2),
        ("a\0b", None, ["TEMPLATE_MALFORMED"]),
        ("x" * 1_600, None, []),
        ("x" * 1_601, None, ["TEMPLATE_TOO_LONG"]),
        ("x" * 1_599 + "{{name}}", ["name"], []),
        ("x" * 1_600 + "{{name}}", ["name"], ["TEMPLATE_TOO_LONG"]),
        ("x" * 1_600 + "{{name|}}", ["name"], []),
        ("{{name|" + "x" * 16_000 + "}}", None, ["TEMPLATE_TOO_LONG"]),
        ("x" * 1_601 + "{{no}}", ["name"], ["TEMPLATE_TOO_LONG", "TEMPLATE_UNKNOWN_PLACEHOLDER"]),
    ],
)
def test_sms_templates(body: str, names: list[str] | None, reasons: list[str]) -> None:
    template, violations = check_sms_template(body, names)
    assert [violation.reason for violation in violations] == reasons
    assert all(violation.field == "sms.body" for violation in violations)
    assert violations or template is not None


def test_a_rendered_sms_may_have_1600_characters() -> None:
    assert not is_sms_too_long("ü" * SMS_CHARACTERS_MAX)
    assert is_sms_too_long("ü" * (SMS_CHARACTERS_MAX + 1))
