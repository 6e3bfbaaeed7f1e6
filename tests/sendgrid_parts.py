"""What tests of SendGrid's request and answers share."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from outreach.email.blocks import Html
from outreach.email.compile import compile_email
from outreach.email.compiled import CompiledEmail
from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import TokenKey
from outreach.sending.transport import HttpAnswer
from services.sender_email.request import MailTemplate
from tests.campaign_double import hash_of

KEY = TokenKey("a key of at least thirty-two characters")
ORGANISATION, CAMPAIGN = UUID(int=1), UUID(int=2)
UNSUBSCRIBE = "https://mail.outreach.test/unsubscribe/"
VARIABLES = ("name", "code")
HTML = (
    '<p>Dear {{name}}, <a href="https://shop.example/?c={{code}}">{{code|none}}</a>'
    ' <a href="{{unsubscribe_url}}">unsubscribe</a></p>'
)


def compiled(html: str = HTML, subject: str = "Hello {{name}}") -> CompiledEmail:
    """An email whose tags are the same each time."""
    return compile_email(
        Html(html), subject=subject, variable_names=VARIABLES, salt=lambda: "abcdef012345"
    )


def content(*attachments: str, is_test: bool = False) -> delivery_pb2.CampaignContent:
    made = delivery_pb2.CampaignContent(is_test=is_test)
    sender = getattr(made.email, "from")
    sender.address, sender.display_name = "news@outreach.example", 'Ann "O" é 😀'
    for name in attachments:
        made.attachments.add(id=name, file_name=name, content_type="application/pdf")
    return made


def template(
    *,
    email: CompiledEmail | None = None,
    made: delivery_pb2.CampaignContent | None = None,
    attachments: Sequence[bytes] = (),
) -> MailTemplate:
    return MailTemplate(
        made or content(),
        (email or compiled()).bind(VARIABLES),
        attachments,
        organisation_id=ORGANISATION.bytes,
        campaign_id=CAMPAIGN.bytes,
        token_key=KEY,
        unsubscribe_url=UNSUBSCRIBE,
    )


def message(number: int, *values: str, recipient: str = "") -> delivery_pb2.ClaimedMessage:
    address = recipient or f"person-{number}@example.org"
    return delivery_pb2.ClaimedMessage(
        number=number,
        attempt=1,
        recipient=address,
        values=values or (f"Name {number}", f"C-{number}"),
        recipient_hash=hash_of(address),
    )


def tokens(of: delivery_pb2.ClaimedMessage) -> tuple[str, str]:
    """The message's attempt id and its unsubscribe link."""
    ids = (ORGANISATION.bytes, CAMPAIGN.bytes, of.number)
    return (
        KEY.sign_attempt(*ids, of.attempt),
        UNSUBSCRIBE + KEY.sign_unsubscribe(*ids, of.recipient_hash),
    )


def answer(status: int, *fields: str | None, **headers: str) -> HttpAnswer:
    """An answer of SendGrid's; `fields` are what its errors name."""
    errors = [
        {"message": "person-1@example.org is bad", "field": field, "help": None} for field in fields
    ]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpAnswer(
        status, orjson.dumps({"errors": errors}), CIMultiDictProxy(CIMultiDict(named))
    )
