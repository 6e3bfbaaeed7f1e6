"""The provider's ledger: all that the sandbox accepted, on both channels."""

from __future__ import annotations

from typing import Any

from chaos.history import Acceptance
from outreach.local.sandbox_client import SandboxClient
from outreach.sending.attempt_token import InvalidToken, TokenKey
from outreach.vocabulary import Channel


async def read_ledger(sandbox: SandboxClient, token_key: TokenKey) -> list[Acceptance]:
    """Every acceptance, each channel's in its order."""
    accepted = [
        acceptance_of(Channel.SMS, row, token_key) async for row in sandbox.ledger_messages()
    ]
    accepted += [
        acceptance_of(Channel.EMAIL, row, token_key) async for row in sandbox.ledger_emails()
    ]
    return accepted


def acceptance_of(channel: Channel, row: dict[str, Any], token_key: TokenKey) -> Acceptance:
    """A row of the channel's ledger; the ids are those that its token says, if it is one of ours."""
    try:
        attempt = token_key.read_attempt(row["attempt"] or "")
    except InvalidToken:
        attempt = None
    sms = channel is Channel.SMS
    return Acceptance(
        channel=channel,
        recipient=row["to"] if sms else row["email"],
        provider_message_id=row["sid"] if sms else row["sg_message_id"],
        token_valid=attempt is not None,
        campaign_id=str(attempt.campaign_id) if attempt else "",
        number=attempt.number if attempt else 0,
        attempt=attempt.attempt if attempt else 0,
        arrived_time=row["arrived"],
    )
