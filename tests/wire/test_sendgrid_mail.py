"""Our request, put together from bytes, and the sendgrid package's own `Mail` are the same JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from sendgrid.helpers.mail import (  # no stubs: see pyproject.toml
    Attachment,
    BypassBounceManagement,
    Content,
    CustomArg,
    Disposition,
    FileContent,
    FileName,
    FileType,
    From,
    Header,
    Mail,
    MailSettings,
    Personalization,
    ReplyTo,
    SubscriptionTracking,
    Substitution,
    To,
    TrackingSettings,
)

from outreach.internal.v1 import delivery_pb2
from tests.sendgrid_parts import VARIABLES, compiled, content, message, template, tokens

EMAIL = compiled()
FILES = {"terms.pdf": b"%PDF terms"}
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)


def mail(sender: From, reply_to: ReplyTo, subject: str, text: str, html: str) -> Mail:
    """What is the same for all recipients, as the package has it."""
    made = Mail(from_email=sender, subject=subject)
    made.reply_to = reply_to
    made.add_content(Content("text/plain", text))
    made.add_content(Content("text/html", html))
    made.add_header(Header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    made.tracking_settings = TrackingSettings(subscription_tracking=SubscriptionTracking(False))
    for name, data in FILES.items():
        made.add_attachment(
            Attachment(
                FileContent(base64.b64encode(data).decode()),
                FileName(name),
                FileType("application/pdf"),
                Disposition("attachment"),
            )
        )
    return made


def personalization(
    of: delivery_pb2.ClaimedMessage, substitutions: dict[str, str]
) -> Personalization:
    attempt_id, link = tokens(of)
    one = Personalization()
    one.add_to(To(of.recipient))
    one.add_header(Header("List-Unsubscribe", f"<{link}>"))
    one.add_custom_arg(CustomArg("attempt_id", attempt_id))
    one.add_custom_arg(CustomArg("recipient_hash", of.recipient_hash.hex()))
    for tag, value in substitutions.items():
        one.add_substitution(Substitution(tag, value))
    return one


def ours(display_name: str) -> tuple[delivery_pb2.CampaignContent, Sequence[bytes]]:
    made = content(*FILES)
    getattr(made.email, "from").display_name = display_name
    made.email.reply_to.address = "answers@outreach.example"
    return made, list(FILES.values())


def parsed(pieces: Sequence[bytes]) -> Any:
    return orjson.loads(b"".join(pieces))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.sampled_from(["", "Ann é"]))
def test_a_request_for_many_is_the_packages(
    values: list[tuple[str, str]], display_name: str
) -> None:
    messages = [message(number, *pair) for number, pair in enumerate(values, 1)]
    made, attachments = ours(display_name)
    expected = mail(
        From("news@outreach.example", display_name or None),
        ReplyTo("answers@outreach.example"),
        EMAIL.subject,
        EMAIL.text,
        EMAIL.html,
    )
    bound = EMAIL.bind(VARIABLES)
    for at, one in enumerate(messages):
        substitutions = bound.substitutions(one.values, tokens(one)[1])
        expected.add_personalization(personalization(one, substitutions), at)
    mine = template(email=EMAIL, made=made, attachments=attachments)
    personalizations = [one for one in mine.personalizations(messages) if one is not None]
    assert parsed(mine.together(personalizations)) == expected.get()
    expected.mail_settings = MailSettings(
        bypass_bounce_management=BypassBounceManagement(enable=True)
    )
    assert parsed(mine.together(personalizations, is_retry=True)) == expected.get()


@settings(deadline=None, max_examples=20)
@given(texts, texts)
def test_a_request_for_one_alone_is_the_packages(name: str, code: str) -> None:
    one = message(1, name, code)
    made, attachments = ours("Ann")
    rendered = EMAIL.bind(VARIABLES).render(one.values, tokens(one)[1])
    expected = mail(
        From("news@outreach.example", "Ann"),
        ReplyTo("answers@outreach.example"),
        rendered.subject,
        rendered.text,
        rendered.html,
    )
    expected.add_personalization(personalization(one, {}))
    pieces = template(email=EMAIL, made=made, attachments=attachments).alone(one)
    assert pieces is not None
    assert parsed(pieces) == expected.get()
    one.is_retry = True
    expected.mail_settings = MailSettings(
        bypass_bounce_management=BypassBounceManagement(enable=True)
    )
    again = template(email=EMAIL, made=made, attachments=attachments).alone(one)
    assert again is not None
    assert parsed(again) == expected.get()
