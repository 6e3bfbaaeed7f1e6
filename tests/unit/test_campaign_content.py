"""Rules of what a campaign sends, edits of it, and the estimate."""

from typing import Any

import pytest
from google.protobuf import json_format

from outreach.template.placeholders import parse_template
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel, FailureReason, MessageStatus, MissingVariablePolicy
from services.campaign.domain.content import (
    Content,
    Draft,
    EmailAddress,
    EmailContent,
    SmsContent,
    SmsSender,
)
from services.campaign.domain.draft_rules import check_draft, problems_with_contacts
from services.campaign.domain.edit import Proposed, check_paths, edited
from services.campaign.domain.estimate import SmsEstimate
from services.campaign.domain.failures import is_retryable
from services.campaign.rpc.convert import sms_to_proto
from services.campaign.store.content_json import content_from_json, content_hash, content_to_json

KEEP = MissingVariablePolicy.KEEP_PLACEHOLDER


def _draft(content: Content | None = None, **fields: Any) -> Draft:
    content = content or SmsContent(body="Hello")
    channel = Channel.SMS if isinstance(content, SmsContent) else Channel.EMAIL
    return Draft(
        **{
            "name": "A",
            "description": "",
            "channel": channel,
            "content": content,
            "missing_variable_policy": KEEP,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (_draft(), []),
        (_draft(name=""), [("campaign.name", "FIELD_REQUIRED")]),
        (_draft(name="n" * 200), []),
        (_draft(name="n" * 201), [("campaign.name", "FIELD_TOO_LONG")]),
        (_draft(name="a\nb"), [("campaign.name", "FIELD_INVALID")]),
        (_draft(description="a\nb"), []),
        (_draft(description="d" * 2001), [("campaign.description", "FIELD_TOO_LONG")]),
        (_draft(description="a\0"), [("campaign.description", "FIELD_INVALID")]),
        (_draft(SmsContent("x" * 1600)), []),
        (_draft(SmsContent("x" * 1601)), [("campaign.sms.body", "TEMPLATE_TOO_LONG")]),
        (_draft(SmsContent("a\0")), [("campaign.sms.body", "TEMPLATE_MALFORMED")]),
        (_draft(SmsContent("x", SmsSender())), [("campaign.sms.sender", "FIELD_REQUIRED")]),
        (_draft(SmsContent("x", SmsSender("MG" + "a" * 32))), []),
        (
            _draft(SmsContent("x", SmsSender("MG1"))),
            [("campaign.sms.sender.messaging_service_sid", "FIELD_INVALID")],
        ),
        (_draft(SmsContent("x", SmsSender(None, "+15005550006"))), []),
        (_draft(SmsContent("x", SmsSender(None, "Outreach"))), []),
        (
            _draft(SmsContent("x", SmsSender(None, "twelve chars"))),
            [("campaign.sms.sender.from", "FIELD_INVALID")],
        ),
        (_draft(SmsContent("x", None, 1)), []),
        (_draft(SmsContent("x", None, 36_000)), []),
        (
            _draft(SmsContent("x", None, 36_001)),
            [("campaign.sms.validity_period", "FIELD_OUT_OF_RANGE")],
        ),
        (
            _draft(SmsContent("x", None, 0)),
            [("campaign.sms.validity_period", "FIELD_OUT_OF_RANGE")],
        ),
        (
            _draft(SmsContent("x", None, 1.5)),
            [("campaign.sms.validity_period", "FIELD_INVALID")],
        ),
        (
            _draft(EmailContent(subject="a\r\nBcc: x", from_=EmailAddress("none"))),
            [
                ("campaign.email.subject", "FIELD_INVALID"),
                ("campaign.email.from.address", "FIELD_INVALID"),
            ],
        ),
    ],
)
def test_every_broken_rule_is_told(draft: Draft, expected: list[tuple[str, str]]) -> None:
    found = check_draft(draft, None, None).violations
    assert [(violation.field, violation.reason) for violation in found] == expected


def test_several_faults_are_told_together() -> None:
    draft = _draft(SmsContent("x" * 1601, SmsSender()), name="")
    assert len(check_draft(draft, None, None).violations) == 3


@pytest.mark.parametrize(
    ("body", "names", "reasons"),
    [
        ("", None, ["TEMPLATE_EMPTY"]),
        ("Hi {{name}}", None, []),
        ("Hi {{name}}", ("name",), []),
        ("Hi {{name}} {{city}}", ("name",), ["TEMPLATE_UNKNOWN_PLACEHOLDER"]),
        ("Hi {{name", None, ["TEMPLATE_MALFORMED"]),
        ("{{ " * 500, None, ["TEMPLATE_MALFORMED"] * 20),
    ],
)
def test_an_unfinished_template_has_problems_and_no_violations(
    body: str, names: tuple[str, ...] | None, reasons: list[str]
) -> None:
    findings = check_draft(_draft(SmsContent(body)), names, None)
    assert [problem.reason for problem in findings.problems] == reasons
    assert findings.violations == []
    if names is not None:
        assert problems_with_contacts(SmsContent(body), [], None, names) == findings.problems
    assert all(problem.field == "sms.body" for problem in findings.problems)


_PROPOSED = Proposed(
    name="B",
    description="new",
    sms=SmsContent("New", SmsSender(None, "Us"), 60),
    email=EmailContent(subject="New"),
    missing_variable_policy=MissingVariablePolicy.SKIP,
)


def test_an_edit_changes_what_the_mask_names_and_nothing_else() -> None:
    draft = _draft(SmsContent("Old", SmsSender("MG" + "0" * 32), 30), description="old")
    changed, violations = edited(draft, _PROPOSED, ["name", "sms.body", "sms.validity_period"])
    assert violations == []
    assert changed == _draft(
        SmsContent("New", SmsSender("MG" + "0" * 32), 60), name="B", description="old"
    )
    whole, _ = edited(draft, _PROPOSED, ["sms", "missing_variable_policy", "description"])
    assert (whole.content, whole.description) == (_PROPOSED.sms, "new")
    assert whole.missing_variable_policy is MissingVariablePolicy.SKIP


def test_an_edit_of_the_other_channel_is_refused() -> None:
    draft, violations = edited(_draft(), _PROPOSED, ["email.subject"])
    assert draft == _draft()
    assert [(v.field, v.reason) for v in violations] == [("campaign.email", "FIELD_INVALID")]


@pytest.mark.parametrize(
    ("paths", "reasons"),
    [
        ([], ["FIELD_REQUIRED"]),
        (["channel"], ["FIELD_IMMUTABLE"]),
        (["columns", "counts.total"], ["FIELD_IMMUTABLE", "FIELD_IMMUTABLE"]),
        (["nonsense"], ["FIELD_UNKNOWN"]),
        (["sms.nonsense", "*"], ["FIELD_UNKNOWN", "FIELD_UNKNOWN"]),
        (["name", "sms", "sms.sender", "email.from"], []),
        (["email.html", "email.mjml", "email.blocks", "email.text"], []),
        (["template_warnings", "email_size.html_bytes"], ["FIELD_IMMUTABLE"] * 2),
    ],
)
def test_masks_are_checked(paths: list[str], reasons: list[str]) -> None:
    assert [violation.reason for violation in check_paths(paths)] == reasons


def test_an_estimate_counts_every_contact_once() -> None:
    template = parse_template("{{text}} {{name|you}}").bind(("text", "name"))
    estimate = SmsEstimate(template, MissingVariablePolicy.SKIP)
    estimate.add(["a", None], suppressed=False)
    estimate.add(["é" * 100 + "ż", "b"], suppressed=False)
    estimate.add([None, "b"], suppressed=False)
    estimate.add(["x" * 1600, None], suppressed=False)
    estimate.add([None, None], suppressed=True)
    assert (estimate.to_send, estimate.skipped, estimate.too_long, estimate.suppressed) == (
        2,
        1,
        1,
        1,
    )
    assert (estimate.missing_variables, estimate.missing_by_variable) == (1, {"text": 1})
    assert (estimate.segments_min, estimate.segments_max, estimate.segments_mean) == (1, 2, 1.5)


def test_an_estimate_that_keeps_placeholders_sends_to_all() -> None:
    template = parse_template("{{name}}").bind(("name",))
    estimate = SmsEstimate(template, KEEP)
    estimate.add([None], suppressed=False)
    assert (estimate.to_send, estimate.skipped, estimate.missing_variables) == (1, 0, 1)


@pytest.mark.parametrize(
    "content",
    [
        SmsContent(),
        SmsContent("Hi", SmsSender("MG" + "0" * 32), 36_000),
        SmsContent("Hi", SmsSender(None, "+15005550006"), 1),
    ],
)
def test_contents_are_stored_as_protobuf_writes_json(content: SmsContent) -> None:
    stored = content_to_json(content)
    assert content_from_json(Channel.SMS, stored) == content
    assert json_format.Parse(stored, campaign_pb2.SmsContent()) == sms_to_proto(content)


def test_the_content_hash_follows_everything_that_is_rendered() -> None:
    base = content_hash(SmsContent("a"), ("x",), KEEP)
    assert base == content_hash(SmsContent("a"), ("x",), KEEP)
    others = {
        content_hash(SmsContent("b"), ("x",), KEEP),
        content_hash(SmsContent("a"), ("y",), KEEP),
        content_hash(SmsContent("a"), ("x",), MissingVariablePolicy.SKIP),
        content_hash(SmsContent("a", None, 5), ("x",), KEEP),
    }
    assert len(others | {base}) == 5


def test_what_can_be_retried() -> None:
    assert is_retryable(MessageStatus.CANCELLED, None)
    assert is_retryable(MessageStatus.FAILED, FailureReason.UNREACHABLE)
    assert not is_retryable(MessageStatus.FAILED, FailureReason.INVALID_RECIPIENT)
    assert not is_retryable(MessageStatus.OPTED_OUT, None)
    assert not is_retryable(MessageStatus.DELIVERED, None)
