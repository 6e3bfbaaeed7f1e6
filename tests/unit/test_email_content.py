"""Rules of an email campaign's content, edits of it, who it is from, and how it is kept."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from google.protobuf import json_format

from outreach.email.blocks import (
    Blocks,
    Button,
    Columns,
    Divider,
    EmailStyle,
    Heading,
    Html,
    Image,
    Mjml,
    Paragraph,
    Spacer,
    Span,
)
from outreach.email.compiled import CompiledEmail
from outreach.email.findings import EmailWarning
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel, MissingVariablePolicy
from services.campaign.domain.compilation import TemplateReport
from services.campaign.domain.content import Draft, EmailAddress, EmailContent, SmsContent
from services.campaign.domain.draft_rules import check_draft, check_form, problems_with_contacts
from services.campaign.domain.edit import Proposed, edited
from services.campaign.domain.estimate import EmailEstimate
from services.campaign.domain.senders import VerifiedSenders, unverified_senders
from services.campaign.rpc.email_protos import email_to_proto
from services.campaign.rpc.email_requests import PARTS_MAX, email_of
from services.campaign.rpc.fields import Fields
from services.campaign.store.content_json import (
    AttachmentKey,
    content_from_json,
    content_hash,
    content_to_json,
    report_from_json,
    report_to_json,
)
from services.campaign.usecases import compile_template
from services.campaign.usecases.compile_template import compilation_of_email

KEEP = MissingVariablePolicy.KEEP_PLACEHOLDER
LINK = '<a href="{{unsubscribe_url}}">Unsubscribe</a>'
FROM = EmailAddress("news@example.com", "News")
GOOD = EmailContent("Hi {{name}}", FROM, None, "", Html(f"<p>{{{{name}}}}</p>{LINK}"), "")
ALL_BLOCKS = Blocks(
    (
        Heading("Hello"),
        Heading("Hello {{name}}", 1, "right"),
        Paragraph((), "center"),
        Paragraph((Span("a", bold=True, link="https://x.example"), Span("b", italic=True))),
        Button("Go", "https://x.example/{{name}}", "left"),
        Image("https://x.example/a.png", "A", "https://x.example", 200, "right"),
        Image("https://x.example/a.png"),
        Divider(),
        Spacer(),
        Spacer(20),
        Columns(((Divider(), Spacer(3)), (), (Heading("x", 3),))),
        Paragraph((Span("Unsubscribe", link="{{unsubscribe_url}}"),)),
    ),
    EmailStyle(700, "Georgia", "#000000", "", "#111111", "", "#222222", "#333333"),
)


def draft(content: EmailContent, **fields: Any) -> Draft:
    whole = {"name": "A", "description": "", "channel": Channel.EMAIL, "content": content}
    return Draft(**{**whole, "missing_variable_policy": KEEP, **fields})


def found(content: EmailContent, names: tuple[str, ...] | None = None) -> tuple[Any, Any]:
    """Violations and problems, as (path, reason)."""
    findings = check_draft(draft(content), names, compilation_of_email(content))
    return (
        [(violation.field, violation.reason) for violation in findings.violations],
        [(problem.field, problem.reason) for problem in findings.problems],
    )


@pytest.mark.parametrize("names", [None, ("name",), ("other", "name")])
def test_a_finished_email_has_no_fault(names: tuple[str, ...] | None) -> None:
    assert found(GOOD, names) == ([], [])


INJECTIONS = ["a\r\nBcc: x@y.example", "a\nb", "a\rb", "a\0b", "a\x0bb", "a\x85b", "a\u2028b"]


@pytest.mark.parametrize("line", INJECTIONS)
@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("subject", lambda line: replace(GOOD, subject=line)),
        ("preheader", lambda line: replace(GOOD, preheader=line)),
        ("from.address", lambda line: replace(GOOD, from_=EmailAddress(f"{line}@x.example"))),
        ("from.display_name", lambda line: replace(GOOD, from_=EmailAddress("a@x.example", line))),
        ("reply_to.address", lambda line: replace(GOOD, reply_to=EmailAddress(line))),
        (
            "reply_to.display_name",
            lambda line: replace(GOOD, reply_to=EmailAddress("a@x.example", line)),
        ),
    ],
)
def test_no_header_can_be_injected(field: str, content: Any, line: str) -> None:
    violations = check_form(draft(content(line)))
    assert [(v.field, v.reason) for v in violations] == [
        (f"campaign.email.{field}", "FIELD_INVALID")
    ]
    assert all(line not in violation.text for violation in violations)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (replace(GOOD, subject="x" * 999), [("subject", "FIELD_TOO_LONG")]),
        (replace(GOOD, preheader="x" * 501), [("preheader", "FIELD_TOO_LONG")]),
        (replace(GOOD, from_=EmailAddress("")), [("from.address", "FIELD_REQUIRED")]),
        (replace(GOOD, from_=EmailAddress("none")), [("from.address", "FIELD_INVALID")]),
        (replace(GOOD, from_=EmailAddress("ä@x.example")), [("from.address", "FIELD_INVALID")]),
        (
            replace(GOOD, reply_to=EmailAddress("x" * 250 + "@x.example")),
            [("reply_to.address", "FIELD_TOO_LONG")],
        ),
        (
            replace(GOOD, from_=EmailAddress("a@x.example", "Doe, Jane")),
            [("from.display_name", "FIELD_INVALID")],
        ),
        (
            replace(GOOD, from_=EmailAddress("a@x.example", "x" * 201)),
            [("from.display_name", "FIELD_TOO_LONG")],
        ),
        (replace(GOOD, body=Html("a\0")), [("html", "TEMPLATE_MALFORMED")]),
        (replace(GOOD, body=Mjml("a\0")), [("mjml", "TEMPLATE_MALFORMED")]),
        (replace(GOOD, text="a\0"), [("text", "TEMPLATE_MALFORMED")]),
        (
            replace(GOOD, body=Blocks((Divider(), Button("x", "https://x.example/\0")))),
            [("blocks.blocks[1].button.url", "TEMPLATE_MALFORMED")],
        ),
    ],
)
def test_what_can_never_be_right_is_refused(
    content: EmailContent, expected: list[tuple[str, str]]
) -> None:
    violations = [(v.field, v.reason) for v in check_form(draft(content))]
    assert violations == [(f"campaign.email.{field}", reason) for field, reason in expected]


@pytest.mark.parametrize(
    ("content", "violations", "problems"),
    [
        (
            EmailContent(),
            [],
            [
                ("email.subject", "TEMPLATE_EMPTY"),
                ("email.html", "TEMPLATE_EMPTY"),
                ("email.from", "FIELD_REQUIRED"),
            ],
        ),
        (
            replace(GOOD, subject="", body=Html("<p>x</p>")),
            [],
            [
                ("email.subject", "TEMPLATE_EMPTY"),
                ("email.html", "TEMPLATE_UNSUBSCRIBE_URL_MISSING"),
            ],
        ),
        (replace(GOOD, body=Html("{{name" + LINK)), [], [("email.html", "TEMPLATE_MALFORMED")]),
        (
            replace(GOOD, body=Mjml("<mjml><mj-body><mj-section>")),
            [],
            [("email.mjml", "TEMPLATE_MALFORMED")],
        ),
        (replace(GOOD, text="{{", from_=None), [], [
            ("email.text", "TEMPLATE_MALFORMED"),
            ("email.from", "FIELD_REQUIRED"),
        ]),
        (replace(GOOD, body=Blocks(())), [], [("email.blocks", "TEMPLATE_EMPTY")]),
        (
            replace(GOOD, body=Blocks((Heading(""), Button("x", "")))),
            [],
            [
                ("email.blocks.blocks[0].heading.text", "FIELD_REQUIRED"),
                ("email.blocks.blocks[1].button.url", "FIELD_REQUIRED"),
            ],
        ),
        (
            replace(GOOD, body=Blocks((Heading("x", 9), Image("ftp://x")))),
            [
                ("campaign.email.blocks.blocks[0].heading.level", "FIELD_OUT_OF_RANGE"),
                ("campaign.email.blocks.blocks[1].image.url", "FIELD_INVALID"),
            ],
            [],
        ),
        (
            replace(GOOD, body=Html("x" * 1_000_001)),
            [("campaign.email.html", "TEMPLATE_TOO_LONG")],
            [],
        ),
        (replace(GOOD, text="x" * 1_000_001), [("campaign.email.text", "TEMPLATE_TOO_LONG")], []),
        (
            replace(GOOD, body=Blocks((Divider(),) * 501)),
            [("campaign.email.blocks", "TEMPLATE_TOO_LONG")],
            [],
        ),
    ],
)  # fmt: skip
def test_an_unfinished_email_has_problems_and_an_impossible_one_is_refused(
    content: EmailContent, violations: Any, problems: Any
) -> None:
    assert found(content) == (violations, problems)


def test_a_placeholder_that_no_column_provides_is_named_where_it_stands_first() -> None:
    content = EmailContent(
        subject="{{a}}",
        from_=FROM,
        preheader="{{a}} {{b}}",
        body=Blocks((Button("{{c}}", "https://x.example/{{name}}"), *ALL_BLOCKS.blocks)),
        text="{{d|x}} {{unsubscribe_url}}",
    )
    violations, problems = found(content, ("name",))
    assert violations == []
    assert problems == [
        ("email.subject", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
        ("email.preheader", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
        ("email.blocks.blocks[0].button.label", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
        ("email.text", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
    ]
    assert found(content, ("a", "b", "c", "d", "name")) == ([], [])


def test_many_and_long_unknown_placeholders_are_told_in_a_few_words() -> None:
    long = "".join(f"{{{{{'x' * 10_000}{n}}}}}" for n in range(50))
    content = replace(GOOD, body=Html(long + LINK))
    findings = check_draft(draft(content), (), compilation_of_email(content))
    assert len(findings.problems) == 20
    assert all(len(problem.description) < 200 for problem in findings.problems)


def test_an_import_checks_by_the_report_alone() -> None:
    report = compilation_of_email(GOOD).report
    assert report is not None
    assert report.names == ("name",)
    assert problems_with_contacts(GOOD, [], report, ("name",)) == []
    unknown = problems_with_contacts(GOOD, [], report, ("city",))
    assert [(p.field, p.reason) for p in unknown] == [
        ("email.subject", "TEMPLATE_UNKNOWN_PLACEHOLDER")
    ]
    broken = replace(GOOD, body=Html("{{"))
    kept = check_draft(draft(broken), None, compilation_of_email(broken)).problems
    assert problems_with_contacts(broken, kept, None, ("name",)) == kept


def test_a_compilation_is_reported() -> None:
    content = replace(GOOD, body=Html(f"<script>x</script><p onclick=x>{'y' * 105_000}</p>{LINK}"))
    compilation = compilation_of_email(content)
    report, compiled = compilation.report, compilation.compiled
    assert report is not None
    assert compiled is not None
    codes = [warning.code for warning in report.warnings]
    assert codes == ["SCRIPT_REMOVED", "EVENT_HANDLER_REMOVED", "CLIPPED_BY_GMAIL"]
    email = CompiledEmail.from_dict(orjson.loads(compiled))
    assert (report.html_bytes, report.text_bytes) == (email.html_bytes, email.text_bytes)
    assert report_from_json(report_to_json(report)) == report
    assert report_from_json(None) is None


def test_what_no_sender_could_fetch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_template, "COMPILED_BYTES_MAX", 1_000)
    assert found(GOOD) == ([("campaign.email.html", "TEMPLATE_TOO_LONG")], [])


# edits


def _edit(content: EmailContent, proposed: EmailContent, *paths: str) -> EmailContent:
    new = Proposed("", "", SmsContent(), proposed, KEEP)
    changed, violations = edited(draft(content), new, paths)
    assert violations == []
    assert isinstance(changed.content, EmailContent)
    return changed.content


@pytest.mark.parametrize(
    ("path", "body"), [("html", Html("x")), ("mjml", Mjml("x")), ("blocks", ALL_BLOCKS)]
)
def test_another_form_of_the_body_replaces_the_body_alone(path: str, body: Any) -> None:
    whole = EmailContent("s", FROM, EmailAddress("r@x.example"), "p", Html("old"), "t")
    changed = _edit(whole, EmailContent(body=body), f"email.{path}")
    assert changed == replace(whole, body=body)
    everything = ["email.html", "email.mjml", "email.blocks"]
    assert _edit(whole, EmailContent(body=body), *everything) == replace(whole, body=body)


def test_a_form_that_is_named_and_not_given_empties_the_body() -> None:
    for proposed in (EmailContent(), EmailContent(body=Html("x"))):
        assert _edit(GOOD, proposed, "email.mjml") == replace(GOOD, body=None)


def test_an_edit_of_an_email_changes_what_the_mask_names() -> None:
    new = EmailContent("new", EmailAddress("n@x.example"), None, "new", Mjml("new"), "new")
    assert _edit(GOOD, new, "email.subject", "email.from") == replace(
        GOOD, subject="new", from_=EmailAddress("n@x.example")
    )
    assert _edit(GOOD, new, "email") == new
    assert GOOD.template == replace(GOOD, from_=None, reply_to=FROM).template
    assert all(
        GOOD.template != replace(GOOD, **{name: getattr(new, name)}).template
        for name in ("subject", "preheader", "body", "text")
    )


# senders

VERIFIED = VerifiedSenders.of(["News@Example.com"], ["Corp.example"])


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("news@example.com", True),
        ("NEWS@EXAMPLE.COM", True),
        ("other@example.com", False),
        ("any@corp.example", True),
        ("any@CORP.example", True),
        ("any@sub.corp.example", False),
        ("any@notcorp.example", False),
        ("corp.example@evil.example", False),
    ],
)
def test_who_may_send(address: str, allowed: bool) -> None:
    assert VERIFIED.allow(address) == allowed
    content = EmailContent(from_=EmailAddress(address), reply_to=EmailAddress(address))
    unverified = unverified_senders(content, VERIFIED)
    expected = [] if allowed else ["campaign.email.from.address", "campaign.email.reply_to.address"]
    assert [violation.field for violation in unverified] == expected
    assert unverified_senders(content, None) == []
    assert unverified_senders(content, VERIFIED, than=content) == []
    other = replace(content, reply_to=None)
    assert len(unverified_senders(content, VERIFIED, than=other)) == (0 if allowed else 1)


def test_a_refusal_names_some_that_are_verified() -> None:
    assert "news@example.com, any address of corp.example." in VERIFIED.named()
    many = VerifiedSenders.of([f"{n}@example.com" for n in range(8)], [])
    assert many.named().endswith("4@example.com and 3 more.")
    assert "5@example.com" not in many.named()
    assert "verify one" in VerifiedSenders.of([], []).named()


# how it is kept

CONTENTS = [
    EmailContent(),
    EmailContent("s", FROM, EmailAddress("r@x.example"), "p", Html("<p>"), "t"),
    EmailContent(body=Mjml("<mjml>")),
    EmailContent(body=Blocks(())),
    EmailContent(body=ALL_BLOCKS),
]


@pytest.mark.parametrize("content", CONTENTS)
def test_contents_are_kept_as_given(content: EmailContent) -> None:
    message = email_to_proto(content)
    fields = Fields()
    assert email_of(fields, campaign_pb2.EmailContent.FromString(message.SerializeToString())) == (
        content
    )
    assert fields.violations == []
    stored = content_to_json(content)
    assert content_from_json(Channel.EMAIL, stored) == content
    assert json_format.Parse(stored, campaign_pb2.EmailContent()) == message


def test_an_empty_body_is_none() -> None:
    for empty in (campaign_pb2.EmailContent(html=""), campaign_pb2.EmailContent(mjml="")):
        assert email_of(Fields(), empty).body is None


@pytest.mark.parametrize(
    ("blocks", "violations"),
    [
        ({"blocks": [{}]}, [("blocks[0]", "FIELD_REQUIRED")]),
        (
            {"blocks": [{"divider": {}}, {"image": {"alignment": 9}}]},
            [("blocks[1].image.alignment", "FIELD_INVALID")],
        ),
        (
            {"blocks": [{"columns": {"columns": [{"blocks": [{"columns": {}}, {}]}]}}]},
            [
                ("blocks[0].columns.columns[0].blocks[0].columns", "FIELD_INVALID"),
                ("blocks[0].columns.columns[0].blocks[1]", "FIELD_REQUIRED"),
            ],
        ),
        ({"blocks": [{}] * (PARTS_MAX + 1)}, [("", "TEMPLATE_TOO_LONG")]),
        (
            {"blocks": [{"text": {"spans": [{}] * PARTS_MAX}}, {"text": {"spans": [{}]}}]},
            [("blocks[0].text", "TEMPLATE_TOO_LONG")],
        ),
        (
            {"blocks": [{"columns": {"columns": [{}] * PARTS_MAX}}]},
            [("blocks[0].columns", "TEMPLATE_TOO_LONG")],
        ),
    ],
)
def test_what_is_no_block_is_named(blocks: Any, violations: list[tuple[str, str]]) -> None:
    message = json_format.ParseDict({"blocks": blocks}, campaign_pb2.EmailContent())
    fields = Fields()
    email_of(fields, message)
    assert [(v.field, v.reason) for v in fields.violations] == [
        (f"campaign.email.blocks.{path}".rstrip("."), reason) for path, reason in violations
    ]


def test_the_content_hash_follows_everything_that_a_sender_uses() -> None:
    report = TemplateReport(1, 1, ("name",), (), "aa")
    attachments = [AttachmentKey(UUID(int=1), b"1" * 32), AttachmentKey(UUID(int=2), b"2" * 32)]
    hashes = {
        content_hash(GOOD, (), KEEP),
        content_hash(GOOD, (), KEEP, report=report),
        content_hash(GOOD, ("name",), KEEP, report=report),
        content_hash(GOOD, (), MissingVariablePolicy.SKIP, report=report),
        content_hash(replace(GOOD, reply_to=FROM), (), KEEP, report=report),
        content_hash(GOOD, (), KEEP, report=replace(report, sha256="bb")),
        content_hash(GOOD, (), KEEP, attachments[:1], report=report),
        content_hash(GOOD, (), KEEP, attachments, report=report),
        content_hash(GOOD, (), KEEP, [replace(attachments[0], sha256=b"3" * 32)], report=report),
    }
    assert len(hashes) == 9
    told = replace(report, warnings=(EmailWarning("email.html", "X", "y"),))
    assert content_hash(GOOD, (), KEEP, report=told) in hashes


def test_an_estimate_of_an_email_counts_every_contact_once() -> None:
    compiled = compilation_of_email(replace(GOOD, body=Html(f"{{{{city}}}} {{{{x|y}}}}{LINK}")))
    assert compiled.compiled is not None
    email = CompiledEmail.from_dict(orjson.loads(compiled.compiled))
    for policy, to_send, skipped in ((KEEP, 3, 0), (MissingVariablePolicy.SKIP, 1, 2)):
        estimate = EmailEstimate(email.bind(("name", "city", "x")), policy)
        estimate.add(["a", "b", None], suppressed=False)
        estimate.add([None, "b", "c"], suppressed=False)
        estimate.add([None, None, "c"], suppressed=False)
        estimate.add([None, None, None], suppressed=True)
        assert (estimate.to_send, estimate.skipped, estimate.suppressed) == (to_send, skipped, 1)
        assert estimate.missing_variables == 2
        assert estimate.missing_by_variable == {"name": 2, "city": 1}
