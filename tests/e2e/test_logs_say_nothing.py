"""What the processes write: no log has a recipient, a text or a secret, whatever went wrong."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from outreach.client import CallError
from outreach.local.stack import LocalStack
from services.sandbox.sendgrid.knobs import EmailKnobs
from tests.email_history import EmailHistory, addresses

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

#: Refusals, bounces, doubt and opt-outs: what has most to tell.
TROUBLE = EmailKnobs(
    rejected_share=0.1,
    http_500_after_accept_share=0.3,
    drop_after_accept_share=0.2,
    bounced_classes={"Invalid Address": 0.2},
    dropped_reasons={"Bounced Address": 0.1},
    unsubscribe_share=0.1,
    spamreport_share=0.05,
    event_delay_ms_min=10,
    event_delay_ms_max=200,
)


async def test_no_log_has_a_recipient_or_a_secret(stack: LocalStack) -> None:
    mine = addresses("unlogged", 300)
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = EmailHistory(client, sandbox, TROUBLE, mine)
        await history.prepare()
        await history.run()
        await history.end()
        test = await client.create_test_send(
            history.campaign_id, ["unlogged-test@example.org"], values={"name": "unlogged"}
        )
        assert test.messages
        with pytest.raises(CallError):
            await client.create_test_send(history.campaign_id, ["unlogged no address"])
    secrets = orjson.loads(await asyncio.to_thread((stack.data_dir / "secrets.json").read_bytes))
    unspoken = {*mine, "unlogged", *secrets.values()}
    logs = {path.name: path.read_text("utf-8", "replace") for path in stack.log_dir.iterdir()}
    assert "events_taken" in logs["sender-email-1.log"]
    found = [(name, word) for name, text in logs.items() for word in unspoken if word in text]
    assert [name for name, _ in found] == []
