"""An edit: which fields of a campaign take which new values. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from outreach.email.blocks import Blocks, EmailSource, Html, Mjml
from outreach.errors import Violation
from outreach.vocabulary import Channel, MissingVariablePolicy
from services.campaign.domain.content import Draft, EmailContent, SmsContent


@dataclass(frozen=True, slots=True)
class Proposed:
    """The values of an update request; only those that the mask names count."""

    name: str
    description: str
    sms: SmsContent
    email: EmailContent
    missing_variable_policy: MissingVariablePolicy


_Change = Callable[[Draft, Proposed], Draft]

_ANY_CHANNEL: Mapping[str, _Change] = MappingProxyType(
    {
        "name": lambda draft, new: replace(draft, name=new.name),
        "description": lambda draft, new: replace(draft, description=new.description),
        "missing_variable_policy": lambda draft, new: replace(
            draft, missing_variable_policy=new.missing_variable_policy
        ),
    }
)
#: Paths below `sms`, with the attribute they set.
_SMS = MappingProxyType({"body": "body", "sender": "sender", "validity_period": "validity_seconds"})
#: Paths below `email`, with the attribute they set.
_EMAIL = MappingProxyType(
    {
        "subject": "subject",
        "from": "from_",
        "reply_to": "reply_to",
        "preheader": "preheader",
        "text": "text",
    }
)
#: Paths below `email` of the body, with the form that each gives it.
_BODY: Mapping[str, type[EmailSource]] = MappingProxyType(
    {"html": Html, "mjml": Mjml, "blocks": Blocks}
)
#: Fields of a campaign that nobody changes by an update.
_IMMUTABLE = frozenset(
    {
        "id",
        "channel",
        "status",
        "counts",
        "revision",
        "allowed_actions",
        "etag",
        "columns",
        "contacts",
        "template_problems",
        "template_warnings",
        "email_size",
        "run",
        "create_time",
        "update_time",
        "start_time",
        "stop_time",
        "end_time",
        "failure",
    }
)


def check_paths(paths: Sequence[str]) -> list[Violation]:
    """What is wrong with a mask, whichever campaign it is for."""
    if not paths:
        return [Violation("update_mask", "FIELD_REQUIRED", "Name the fields to change.")]
    violations = []
    for path in paths:
        head, _, rest = path.partition(".")
        if head in _IMMUTABLE:
            violations.append(
                Violation("update_mask", "FIELD_IMMUTABLE", f"`{head}` can't be changed.")
            )
        elif not (
            path in _ANY_CHANNEL
            or (head == "sms" and (not rest or rest in _SMS))
            or (head == "email" and (not rest or rest in _EMAIL or rest in _BODY))
        ):
            violations.append(
                Violation("update_mask", "FIELD_UNKNOWN", "It names a field that there is not.")
            )
    return violations


def edited(draft: Draft, proposed: Proposed, paths: Sequence[str]) -> tuple[Draft, list[Violation]]:
    """The draft with the named fields replaced; violations when a path is of the other channel.

    `paths` have passed `check_paths`.
    """
    violations = []
    for path in paths:
        head, _, rest = path.partition(".")
        change = _ANY_CHANNEL.get(path)
        if change is not None:
            draft = change(draft, proposed)
        elif head == "sms" and isinstance(draft.content, SmsContent):
            draft = replace(draft, content=_sms_edited(draft.content, proposed.sms, rest))
        elif head == "email" and isinstance(draft.content, EmailContent):
            draft = replace(
                draft, content=_email_edited(draft.content, proposed.email, rest, paths)
            )
        else:
            kind = "an SMS" if draft.channel is Channel.SMS else "an email"
            violations.append(
                Violation(f"campaign.{head}", "FIELD_INVALID", f"This is {kind} campaign.")
            )
    return draft, violations


def _sms_edited(content: SmsContent, proposed: SmsContent, path: str) -> SmsContent:
    if not path:
        return proposed
    attribute = _SMS[path]
    return replace(content, **{attribute: getattr(proposed, attribute)})


def _email_edited(
    content: EmailContent, proposed: EmailContent, path: str, paths: Sequence[str]
) -> EmailContent:
    if not path:
        return proposed
    if path in _BODY:
        # Whatever form it had. A form that is named and not given empties the body.
        forms = [form for name, form in _BODY.items() if f"email.{name}" in paths]
        given = isinstance(proposed.body, tuple(forms))
        return replace(content, body=proposed.body if given else None)
    attribute = _EMAIL[path]
    return replace(content, **{attribute: getattr(proposed, attribute)})
