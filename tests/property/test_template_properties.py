from hypothesis import given
from hypothesis import strategies as st

from outreach.template.placeholders import MalformedTemplate, parse_template
from outreach.template.segments import GSM_7_BASIC, GSM_7_EXTENSION, SmsEncoding, segments

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
literals = st.text().filter(lambda text: "{" not in text and "}" not in text)
texts = st.text(st.sampled_from("{}| ab1\n") | st.characters(codec="utf-8"), max_size=60)


@given(st.lists(st.tuples(literals, names, literals | st.none()), max_size=6), literals)
def test_what_is_put_together_is_parsed_apart_and_rendered(
    parts: list[tuple[str, str, str | None]], end: str
) -> None:
    text, filled, empty = "", "", ""
    for literal, name, fallback in parts:
        source = f"{{{{ {name} }}}}" if fallback is None else f"{{{{{name}|{fallback}}}}}"
        text += literal + source
        filled += literal + f"<{name}>"
        empty += literal + (source if fallback is None else fallback.strip())
    template = parse_template(text + end)
    bound = template.bind(template.names)
    assert bound.render([f"<{name}>" for name in template.names]) == filled + end
    assert bound.render([None] * len(template.names)) == empty + end
    needed = {name for _, name, fallback in parts if fallback is None}
    assert set(bound.missing([None] * len(template.names))) == needed


@given(texts)
def test_any_text_is_a_template_or_names_what_is_wrong(text: str) -> None:
    try:
        template = parse_template(text)
    except MalformedTemplate as error:
        places = error.places
    else:
        sources = [placeholder.source for placeholder in template.placeholders]
        pairs = zip(template.literals, [*sources, ""], strict=True)
        assert "".join(literal + source for literal, source in pairs) == text
        assert all("{{" not in literal for literal in template.literals)
        return
    assert places
    assert all(text.startswith("{{", place.position) for place in places)


def parts_one_by_one(text: str) -> tuple[SmsEncoding, int, int]:
    """The rule, character by character: what doesn't fit whole goes to the next part."""
    if set(text) <= set(GSM_7_BASIC + GSM_7_EXTENSION):
        encoding, single, room_of_part = SmsEncoding.GSM_7, 160, 153
        widths = [2 if char in GSM_7_EXTENSION else 1 for char in text]
    else:
        encoding, single, room_of_part = SmsEncoding.UCS_2, 70, 67
        widths = [len(char.encode("utf-16-be")) // 2 for char in text]
    if sum(widths) <= single:
        return encoding, sum(widths), 1
    parts, room = 1, room_of_part
    for width in widths:
        if width > room:
            parts, room = parts + 1, room_of_part
        room -= width
    return encoding, sum(widths), parts


@given(
    st.lists(
        st.tuples(
            st.sampled_from("xé€{^я😀\n") | st.characters(codec="utf-8"), st.integers(1, 170)
        ),
        max_size=6,
    )
)
def test_segments_are_those_of_the_rule(runs: list[tuple[str, int]]) -> None:
    text = "".join(char * count for char, count in runs)
    assert segments(text) == parts_one_by_one(text)
