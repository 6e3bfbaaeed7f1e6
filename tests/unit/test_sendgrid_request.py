"""The body of mail/send, byte for byte, and with values that try to be more than values."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from outreach.email.compiled import CompiledEmail, SubstitutionTag
from outreach.email.contexts import Context
from outreach.internal.v1 import delivery_pb2
from services.sender_email.limits import REQUEST_BYTES_MAX, SUBSTITUTIONS_BYTES_MAX
from tests.sendgrid_parts import compiled, content, message, template, tokens

HOSTILE = [
    "<script>alert('1')</script>",
    "a \"quoted\" \\ 'word'",
    "{{code}} {{unsubscribe_url}}",
    "100% %b %s %(x)s",
    "😀 👩‍👩‍👧 \u202e \u0000",
    "line\r\nBcc: x@example.org\u2028",
    "tabcdef012345x0z tabcdef012345x1z",
    ']},{"to":[{"email":"x@example.org"}]',
]


def body(*messages: delivery_pb2.ClaimedMessage, **options: Any) -> bytes:
    made = template(**options)
    personalizations = [one for one in made.personalizations(messages) if one is not None]
    assert len(personalizations) == len(messages)
    return b"".join(made.together(personalizations))


def test_the_bytes_of_a_request() -> None:
    email = CompiledEmail(
        subject="Hello T1",
        html='<p>T2 <a href="T3">é</a></p>',
        text="T4",
        preheader="",
        tags=(
            SubstitutionTag("T1", "name", None, "{{name}}", Context.HEADER),
            SubstitutionTag("T2", "name", None, "{{name}}", Context.HTML),
            SubstitutionTag("T4", "code", "none", "{{code|none}}", Context.TEXT),
            SubstitutionTag("T3", "unsubscribe_url", None, "{{unsubscribe_url}}", Context.URL),
        ),
    )
    one, two = message(1), message(2, "<Zoë>", "")
    (attempt_1, link_1), (attempt_2, link_2) = tokens(one), tokens(two)
    expected = (
        '{"from":{"email":"news@outreach.example","name":"Ann \\"O\\" é 😀"},'
        '"headers":{"List-Unsubscribe-Post":"List-Unsubscribe=One-Click"},'
        '"tracking_settings":{"subscription_tracking":{"enable":false}},'
        '"subject":"Hello T1","content":[{"type":"text/plain","value":"T4"},'
        '{"type":"text/html","value":"<p>T2 <a href=\\"T3\\">é</a></p>"}],'
        '"personalizations":['
        '{"to":[{"email":"person-1@example.org"}],'
        f'"custom_args":{{"attempt_id":"{attempt_1}","recipient_hash":"{one.recipient_hash.hex()}"}},'
        f'"headers":{{"List-Unsubscribe":"<{link_1}>"}},'
        f'"substitutions":{{"T1":"Name 1","T2":"Name 1","T4":"C-1","T3":"{link_1}"}}}},'
        '{"to":[{"email":"person-2@example.org"}],'
        f'"custom_args":{{"attempt_id":"{attempt_2}","recipient_hash":"{two.recipient_hash.hex()}"}},'
        f'"headers":{{"List-Unsubscribe":"<{link_2}>"}},'
        f'"substitutions":{{"T1":"<Zoë>","T2":"&lt;Zoë&gt;","T4":"none","T3":"{link_2}"}}}}'
        "]}"
    )
    assert body(one, two, email=email).decode() == expected


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_in_its_place(value: str) -> None:
    raw = orjson.loads(body(message(1, value, value), message(2)))
    assert [list(one) for one in raw["personalizations"]] == [
        ["to", "custom_args", "headers", "substitutions"]
    ] * 2
    first, second = raw["personalizations"]
    assert first["to"] == [{"email": "person-1@example.org"}]
    assert second["to"] == [{"email": "person-2@example.org"}]
    by_context = {tag.tag: tag.context.value for tag in compiled().tags}
    assert set(first["substitutions"]) == set(by_context)
    for tag, text in first["substitutions"].items():
        match by_context[tag]:
            case "html":
                assert not set('<>"') & set(text)
            case "header":
                assert text.isprintable() or "\u202e" in text
                assert not set("\r\n\u2028\0") & set(text)
            case "url_part":
                assert set(text) <= set(
                    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~%"
                )


@pytest.mark.parametrize(
    "recipient", ['"odd"@example.org', "o'hara@example.org", "100%b@example.org", "é@example.org"]
)
def test_an_odd_address_is_one_address(recipient: str) -> None:
    raw = orjson.loads(body(message(1, recipient=recipient)))
    assert raw["personalizations"][0]["to"] == [{"email": recipient}]


@pytest.mark.parametrize(
    ("recipient", "sent"),
    [
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("é@bücher.example", "é@xn--bcher-kva.example"),
        ("ann@ \u202ebücher", "ann@ \u202ebücher"),
    ],
)
def test_a_domain_goes_out_in_ascii(recipient: str, sent: str) -> None:
    """Contacts that were given as `xn--…` are kept, and were sent, as people read them."""
    one = message(1, recipient=recipient)
    assert orjson.loads(body(one))["personalizations"][0]["to"] == [{"email": sent}]
    alone = template().alone(one)
    assert alone is not None
    assert orjson.loads(b"".join(alone))["personalizations"][0]["to"] == [{"email": sent}]


def test_20_kb_of_text_goes_alone_with_its_values_in_the_content() -> None:
    large = message(1, "é<" * 7_000, "C")
    made = template()
    assert made.personalizations([message(2), large, message(3)])[1] is None
    pieces = made.alone(large)
    assert pieces is not None
    raw = orjson.loads(b"".join(pieces))
    attempt_id, link = tokens(large)
    assert raw["personalizations"] == [
        {
            "to": [{"email": "person-1@example.org"}],
            "custom_args": {
                "attempt_id": attempt_id,
                "recipient_hash": large.recipient_hash.hex(),
            },
            "headers": {"List-Unsubscribe": f"<{link}>"},
        }
    ]
    assert raw["subject"] == "Hello " + "é<" * 7_000
    assert "é&lt;" * 7_000 in raw["content"][1]["value"]
    assert link in raw["content"][0]["value"]
    assert "tabcdef012345x" not in pieces[1].decode()


def test_substitutions_are_counted_in_bytes_of_all_their_tags() -> None:
    made = template(email=compiled(html="<p>{{name}} {{unsubscribe_url}}</p>", subject="x"))
    # the name stands in the HTML and in the text, two bytes a letter
    lengths = [made.personalizations([message(1, "é" * size, "")])[0] for size in (2_300, 2_500)]
    assert lengths[0] is not None
    assert len(lengths[0]) > SUBSTITUTIONS_BYTES_MAX * 0.9
    assert lengths[1] is None


def test_an_email_with_too_many_tags_goes_to_each_alone() -> None:
    many = "".join(f"{{{{name|{n}}}}} " for n in range(80)) + "{{unsubscribe_url}}"
    made = template(email=compiled(html=f"<p>{many}</p>"))
    assert made.personalizations([message(1), message(2)]) == [None, None]
    assert made.alone(message(1)) is not None


def test_a_request_that_one_recipients_values_make_too_large_is_none() -> None:
    made = template(attachments=[b"x" * 20_000_000], made=content("a.pdf"))
    assert made.shared_bytes < REQUEST_BYTES_MAX
    assert made.alone(message(1)) is not None
    assert made.alone(message(1, "x" * 2_000_000, "")) is None


def test_attachments_stand_once_in_a_request() -> None:
    files = {"Terms & conditions.pdf": bytes(range(256)) * 5, 'odd "é".pdf': b"%PDF"}
    raw = orjson.loads(
        body(message(1), message(2), made=content(*files), attachments=list(files.values()))
    )
    assert [
        (one["filename"], base64.b64decode(one["content"], validate=True))
        for one in raw["attachments"]
    ] == list(files.items())
    assert {(one["type"], one["disposition"]) for one in raw["attachments"]} == {
        ("application/pdf", "attachment")
    }


def test_a_test_send_is_told_apart() -> None:
    raw = orjson.loads(body(message(1), made=content(is_test=True)))
    assert raw["personalizations"][0]["custom_args"] == {
        "attempt_id": tokens(message(1))[0],
        "recipient_hash": message(1).recipient_hash.hex(),
        "test": "true",
    }


def test_the_end_is_the_last_piece() -> None:
    made = template()
    personalization = made.personalizations([message(1)])[0]
    assert personalization is not None
    assert made.together([personalization])[-1] == b"]}"
    alone = made.alone(message(1))
    assert alone is not None
    assert alone[-1] == b"]}"
    assert made.shared_bytes + len(personalization) == sum(
        map(len, made.together([personalization], is_retry=True))
    ), "the larger of both ends"
