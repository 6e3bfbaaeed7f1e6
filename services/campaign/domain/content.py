"""What a campaign sends, and what can be wrong with it. Pure; the rules are in `draft_rules`.

Two kinds of fault: a violation refuses the request (it can never be right), a problem is kept with
the campaign and keeps it from being READY (a draft that is not finished, or whose contacts are still
missing).
"""

from dataclasses import dataclass, field

from outreach.email.blocks import EmailSource
from outreach.errors import Violation
from outreach.vocabulary import Channel, MissingVariablePolicy

#: A template has thousands of faults when it is not meant as one; the first say enough.
PROBLEMS_MAX = 20


@dataclass(frozen=True, slots=True)
class SmsSender:
    """Who an SMS is from: a Messaging Service, or a number or sender id; both None: not chosen."""

    messaging_service_sid: str | None = None
    from_: str | None = None


@dataclass(frozen=True, slots=True)
class SmsContent:
    """An SMS campaign's template and sender settings."""

    body: str = ""
    sender: SmsSender | None = None
    validity_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address with the name shown beside it."""

    address: str = ""
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class EmailContent:
    """An email campaign's template and sender settings; `body` None: not written yet."""

    subject: str = ""
    from_: EmailAddress | None = None
    reply_to: EmailAddress | None = None
    preheader: str = ""
    body: EmailSource | None = None
    text: str = ""

    @property
    def template(self) -> tuple[str, str, EmailSource | None, str]:
        """What is compiled: the same template needs no other compilation."""
        return self.subject, self.preheader, self.body, self.text

    @property
    def body_field(self) -> str:
        """The body's path, as in `email.mjml`."""
        form = "html" if self.body is None else type(self.body).__name__.lower()
        return f"email.{form}"


Content = SmsContent | EmailContent


@dataclass(frozen=True, slots=True)
class Draft:
    """What the caller decides about a campaign."""

    name: str
    description: str
    channel: Channel
    content: Content
    missing_variable_policy: MissingVariablePolicy


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a template from being valid. `field` as in `sms.body`."""

    field: str
    reason: str
    description: str


@dataclass(slots=True)
class Findings:
    """All that is wrong with a draft."""

    violations: list[Violation] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
