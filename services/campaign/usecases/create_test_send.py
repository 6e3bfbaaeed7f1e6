"""Send a campaign's message to a few recipients, as a hidden campaign of its own."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from outreach.email.compiled import CompiledEmail
from outreach.errors import OutreachError
from outreach.recipients import recipient_hash
from outreach.rpc.call import Caller
from outreach.template.placeholders import parse_template
from services.campaign.contacts.destinations import INVALID_RECIPIENT, destination_check
from services.campaign.domain.content import Content, EmailContent, Problem, SmsContent
from services.campaign.domain.test_send import (
    all_names,
    check_recipients,
    check_values,
    marked_email,
    marked_sms,
)
from services.campaign.store import Connection
from services.campaign.store import test_sends as store
from services.campaign.store.campaigns import CampaignRecord
from services.campaign.store.content_json import content_to_json
from services.campaign.store.test_sends import NewTestSend, TestSendRecord
from services.campaign.usecases.get_test_send import require_test_send
from services.campaign.usecases.guards import (
    require_campaign,
    require_channel,
    require_sendable_template,
    require_senders,
    template_invalid,
)

#: An organisation's test sends that senders have to do with at a time.
UNDER_WAY_MAX = 10
_PURPOSE = "TEST_SEND"


@dataclass(frozen=True, slots=True)
class TestSendTerms:
    """`recipient_key` is the deployment's secret key of recipient hashes; a value is as long as a
    contact's field at most.
    """

    recipient_key: bytes
    value_bytes_max: int


@dataclass(frozen=True, slots=True)
class TestSendCommand:
    """Whom to send which campaign's message, with these values by variable name."""

    campaign_id: UUID
    recipients: Sequence[str]
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Marked:
    """What is sent: a content with its mark, and what senders need beside it."""

    content: Content
    compiled: bytes | None
    names: Sequence[str]
    variables: Sequence[str | None]
    segments: int


async def create_test_send(
    connection: Connection, caller: Caller, terms: TestSendTerms, command: TestSendCommand
) -> TestSendRecord:
    """The test send, queued. The campaign itself is not touched, whatever its status.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED when the template is not valid, INVALID_REQUEST,
    CHANNEL_NOT_CONFIGURED, TEST_SENDS_BUSY.
    """
    tested = await store.keep_tested(connection, caller.organisation_id, command.campaign_id)
    campaign = await require_campaign(connection, caller.organisation_id, command.campaign_id)
    assert tested is not None
    require_sendable_template(campaign, _PURPOSE)
    channel = await require_channel(connection, caller.organisation_id, campaign.channel)
    require_senders(campaign, channel, _PURPOSE)
    marked, recipients = _checked(campaign, tested.compiled, terms, command)
    await _require_room(connection, caller)
    new = NewTestSend(
        id=uuid7(),
        campaign_id=campaign.id,
        content=marked.content,
        content_hash=_content_hash(tested.content_hash, marked),
        compiled=marked.compiled,
        variable_names=marked.names,
        variables=marked.variables,
        recipients=recipients,
        recipient_hashes=[
            recipient_hash(terms.recipient_key, campaign.channel, recipient)
            for recipient in recipients
        ],
        segments=marked.segments,
    )
    await store.insert_test_send(connection, new)
    return await require_test_send(connection, caller, new.id)


def _checked(
    campaign: CampaignRecord,
    compiled: bytes | None,
    terms: TestSendTerms,
    command: TestSendCommand,
) -> tuple[_Marked, Sequence[str]]:
    """What is sent and to whom; INVALID_REQUEST with every fault of recipients and values."""
    recipients, violations = check_recipients(
        command.recipients,
        destination_check(campaign.channel),
        lambda recipient: recipient_hash(terms.recipient_key, campaign.channel, recipient),
        INVALID_RECIPIENT[campaign.channel],
    )
    email = _compiled(campaign, compiled)
    names = all_names(campaign.variable_names, _template_names(campaign.content, email))
    violations += check_values(command.values, names, terms.value_bytes_max)
    if violations:
        raise OutreachError.invalid(*violations)
    return _marked(campaign.content, email, names, command.values), recipients


def _compiled(campaign: CampaignRecord, compiled: bytes | None) -> CompiledEmail | None:
    """None for an SMS."""
    if isinstance(campaign.content, SmsContent):
        return None
    if compiled is None:
        fault = "The email could not be made of it; save the template again."
        raise template_invalid(campaign, _PURPOSE, [Problem("email", "TEMPLATE_MALFORMED", fault)])
    return CompiledEmail.from_dict(orjson.loads(compiled))


def _template_names(content: Content, email: CompiledEmail | None) -> Sequence[str]:
    if isinstance(content, SmsContent):
        return parse_template(content.body).names
    assert email is not None
    return email.names


def _marked(
    content: Content, email: CompiledEmail | None, names: Sequence[str], values: Mapping[str, str]
) -> _Marked:
    variables = [values.get(name) or None for name in names]
    if isinstance(content, SmsContent):
        sms = marked_sms(content, names, variables)
        return _Marked(sms.content, None, names, variables, sms.segments)
    if isinstance(content, EmailContent):
        assert email is not None
        marked = marked_email(content, email, names, variables)
        data = orjson.dumps(marked.compiled.to_dict())
        return _Marked(marked.content, data, names, variables, 1)
    assert_never(content)


def _content_hash(tested: str, marked: _Marked) -> str:
    """Another hash than any campaign's; that of the tested content stands for what is not copied
    (attachments, the policy).
    """
    whole = [
        "test send",
        tested,
        content_to_json(marked.content),
        list(marked.names),
        hashlib.sha256(marked.compiled or b"").hexdigest(),
    ]
    return hashlib.sha256(orjson.dumps(whole)).hexdigest()


async def _require_room(connection: Connection, caller: Caller) -> None:
    under_way = await store.count_under_way(connection, caller.organisation_id)
    if under_way >= UNDER_WAY_MAX:
        raise OutreachError(
            "TEST_SENDS_BUSY",
            f"{under_way} test sends are under way; try again when they have ended.",
            metadata={"under_way": str(under_way), "under_way_max": str(UNDER_WAY_MAX)},
        )
