"""The campaign service with an email campaign, as its sender sees it."""

from __future__ import annotations

import hashlib

import orjson

from outreach.email.compile import compile_email
from outreach.email.compiled import CompiledEmail
from outreach.internal.v1 import delivery_pb2
from outreach.v1 import campaign_pb2, channel_pb2
from services.sandbox.settings import SandboxSettings
from tests.campaign_double import CampaignDouble, Message

SENDER = "campaigns@outreach.example"
VARIABLES = ("name", "city", "code")
HTML = (
    "<p>Dear {{name}} of {{city|your town}}</p>"
    '<p><a href="https://shop.example/?code={{code}}">{{code}}</a>'
    ' <a href="{{unsubscribe_url}}">unsubscribe</a></p>'
)


def compiled(html: str = HTML, subject: str = "Hello {{name}}") -> CompiledEmail:
    from outreach.email.blocks import Html

    return compile_email(Html(html), subject=subject, variable_names=VARIABLES)


class EmailCampaignDouble(CampaignDouble):
    """One organisation, one running email campaign."""

    def __init__(self, *, email: CompiledEmail | None = None, window_seconds: int = 300) -> None:
        super().__init__(window_seconds=window_seconds)
        self.email = email or compiled()
        self.sender = SENDER
        self.api_key = SandboxSettings().sendgrid_api_key
        self.is_test = False
        #: Beside the attachments' own; for lies about them.
        self.checksums: dict[str, str] = {}

    def add(self, count: int, *, prefix: str = "person-") -> None:
        first = len(self.messages) + 1
        for number in range(first, first + count):
            values = [f"Name {number}", f"City {number}", f"C-{number}"]
            self.messages[number] = Message(f"{prefix}{number:05d}@example.org", values)

    def content(self) -> delivery_pb2.CampaignContent:
        content = delivery_pb2.CampaignContent(
            campaign_id=str(self.campaign_id),
            organisation_id=str(self.organisation_id),
            channel=channel_pb2.CHANNEL_EMAIL,
            email=campaign_pb2.EmailContent(
                reply_to=campaign_pb2.EmailAddress(address="answers@mail.outreach.example")
            ),
            compiled_email=orjson.dumps(self.email.to_dict()),
            variable_names=VARIABLES,
            missing_variable_policy=self.missing_variable_policy,
            is_test=self.is_test,
        )
        sender = getattr(content.email, "from")
        sender.address, sender.display_name = self.sender, "Outreach"
        for name, body in self.attachments.items():
            content.attachments.add(
                id=name,
                file_name=f"{name}.pdf",
                content_type="application/pdf",
                size_bytes=len(body),
                sha256=self.checksums.get(name) or hashlib.sha256(body).hexdigest(),
            )
        return content

    def account(self) -> delivery_pb2.ProviderAccount:
        return delivery_pb2.ProviderAccount(
            organisation_id=str(self.organisation_id),
            sendgrid=delivery_pb2.SendGridAccount(api_key=self.api_key),
        )
