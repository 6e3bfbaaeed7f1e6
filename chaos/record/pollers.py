"""Pollers: clients that ask for campaigns again and again, and write down what they are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from chaos.history import History
from chaos.wire import campaign_seen
from outreach.client import CallError, OutreachClient

_GET_SECONDS = 0.3
_LIST_SECONDS = 0.7


async def poll_gets(client: OutreachClient, campaign_ids: Sequence[str], history: History) -> None:
    """Ask for each campaign in turn until cancelled; one that can't be answered is left out."""
    while True:
        for campaign_id in campaign_ids:
            try:
                campaign = await client.get_campaign(campaign_id)
            except CallError:
                continue
            finally:
                await asyncio.sleep(_GET_SECONDS)
            history.seen.append(campaign_seen(campaign, "get"))


async def poll_lists(client: OutreachClient, history: History) -> None:
    """Ask for the list of campaigns until cancelled."""
    while True:
        await asyncio.sleep(_LIST_SECONDS)
        try:
            page = await client.list_campaigns()
        except CallError:
            continue
        # One statement's view, so one time: what was so in it was so at once.
        now = time.time()
        history.seen += [
            replace(campaign_seen(campaign, "list"), time=now) for campaign in page.campaigns
        ]
