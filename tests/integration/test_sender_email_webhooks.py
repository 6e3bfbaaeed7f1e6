"""The whole email sender: what it sends comes back as events, links and checks."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from outreach.sending.attempt_token import TokenKey
from tests.campaign_double import hash_of
from tests.sender_email_rig import PUBLIC_URL, EmailRig, sender_email_rig
from tests.sender_rig import TOKEN_KEY
from tests.waiting import eventually

QUICK = {"event_batch_wait_ms": 5, "deferral_seconds": 0.05, "late_bounce_seconds": 0.05}


def local(rig: EmailRig) -> str:
    """The endpoint itself; a proxy in front of it would have taken the public URL's prefix off."""
    return f"http://127.0.0.1:{rig.settings.sender_email_http_port}"


async def take_events(rig: EmailRig) -> None:
    """Set the event webhook at SendGrid, as an operator does."""
    token = TokenKey(TOKEN_KEY).sign_organisation(rig.campaign.organisation_id)
    url = f"{local(rig)}/sendgrid/events/{token}"
    await rig.sandbox.ask("PATCH", "/v3/user/webhooks/event/settings", {"url": url})


async def test_what_was_sent_comes_back_as_events(nats_url: str, tmp_path: Path) -> None:
    knobs: dict[str, object] = {
        **QUICK,
        "deferred_then_delivered_share": 0.2,
        "bounced_classes": {"Invalid Address": 0.2},
        "dropped_reasons": {"Unsubscribed Address": 0.1},
        "bounced_after_delivery_share": 0.1,
        "event_duplicated_share": 0.2,
        "event_reordered_share": 0.3,
    }
    async with sender_email_rig(nats_url, tmp_path, knobs=knobs) as rig:
        await take_events(rig)
        await rig.send(200)
        await eventually(
            lambda: not {"QUEUED", "SENDING", "SENT", "RETRYING"} & set(rig.campaign.statuses()),
            60,
            "all is final",
        )
        fates = {row["email"]: row for row in await rig.sandbox.rows()}
        for message in rig.campaign.messages.values():
            fate = fates[message.recipient]
            told = {outcome.name for _, outcome in message.outcomes}
            if fate["final_event"] == "dropped":
                assert "OPTED_OUT" in told
            else:
                assert ("FAILED" in told) == (fate["final_event"] == "bounce")
        await eventually(lambda: rig.campaign.account_checks, 60, "the account was checked")
        check = rig.campaign.account_checks[0]
        assert check.sender_addresses == ["campaigns@outreach.example"]
        assert not check.fault


async def test_the_link_in_an_email_unsubscribes_its_recipient(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(nats_url, tmp_path) as rig:
        await rig.send(3)
        await rig.settled({"SENT": 3})
        recipient = rig.campaign.messages[2].recipient
        headers = dict((await rig.sandbox.email(recipient))["headers"])
        assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = headers["List-Unsubscribe"].strip("<>")
        assert link.startswith(PUBLIC_URL)
        async with aiohttp.ClientSession() as session:
            url = local(rig) + link.removeprefix(PUBLIC_URL)
            async with session.get(url) as page:
                assert page.status == 200
            assert not rig.campaign.opt_outs
            data = {"List-Unsubscribe": "One-Click"}
            async with session.post(url, data=data, allow_redirects=False) as answer:
                assert answer.status == 200
        await eventually(lambda: rig.campaign.opt_outs, 60, "the opt-out")
        (opt_out,) = rig.campaign.opt_outs
        assert opt_out.recipient_hash == hash_of(recipient)
