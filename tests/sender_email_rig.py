"""The email sender under test with its peers: real gRPC, real NATS, the sandbox as a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from outreach.jetstream.jobs import JobKind
from outreach.local.ports import free_port
from outreach.vocabulary import Channel
from services.sandbox.settings import SandboxSettings
from services.sender_email.app import serve
from services.sender_email.settings import SenderEmailSettings
from tests.campaign_double import TOKEN
from tests.email_campaign_double import EmailCampaignDouble
from tests.integration.test_sandbox_process import sandbox_process
from tests.sandbox_email_parts import asked
from tests.sender_rig import TOKEN_KEY, Jobs, commits_waited_for
from tests.waiting import eventually

PUBLIC_URL = "https://mail.outreach.test"
#: What a rig's sandbox does unless it is told: no event is posted anywhere.
QUIET = {"event_delay_ms_min": 0, "event_delay_ms_max": 0}


def sender_email_settings(
    *, nats_url: str, campaign: str, sendgrid: str, journal_dir: Path, **changes: object
) -> SenderEmailSettings:
    values: dict[str, object] = {
        "nats_url": nats_url,
        "campaign_internal_address": campaign,
        "internal_token": SecretStr(TOKEN),
        "attempt_token_key": SecretStr(TOKEN_KEY),
        "sender_journal_dir": journal_dir,
        "sender_email_http_port": free_port(),
        "sender_email_public_url": PUBLIC_URL,
        "sendgrid_api_url": sendgrid,
        "sender_drain_seconds_max": 30.0,
        **changes,
    }
    return SenderEmailSettings.model_validate(values)


class SandboxClient:
    """Asks a sandbox what it got."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session
        self._key = SandboxSettings().sendgrid_api_key

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await asked(self._session, self.url, method, path, body, self._key)
        assert answer.status < 300, answer
        return answer.body

    async def set(self, **knobs: Any) -> None:
        """Change knobs of emails."""
        await self.ask("PATCH", "/sandbox/knobs", {"email": knobs})

    async def totals(self) -> dict[str, Any]:
        return dict(await self.ask("GET", "/sandbox/sendgrid/ledger"))

    async def rows(self) -> list[dict[str, Any]]:
        path = "/sandbox/sendgrid/ledger/emails?limit=10000"
        return list((await self.ask("GET", path))["emails"])

    async def email(self, address: str) -> dict[str, Any]:
        """What one recipient got."""
        (row,) = [row for row in await self.rows() if row["email"] == address]
        return dict(await self.ask("GET", f"/sandbox/emails/{row['sg_message_id']}.json"))


@dataclass
class EmailRig:
    campaign: EmailCampaignDouble
    sandbox: SandboxClient
    settings: SenderEmailSettings
    jobs: Jobs
    stop: asyncio.Event

    async def send(self, count: int) -> None:
        """Add messages and dispatch them, as many a job as a request takes."""
        first = len(self.campaign.messages) + 1
        self.campaign.add(count)
        for start in range(first, first + count, 1_000):
            await self.jobs.publish(start, min(start + 999, first + count - 1))

    async def dispatch(self, *, kind: JobKind = "send") -> None:
        """A job for all messages there are."""
        await self.jobs.publish(1, len(self.campaign.messages), kind=kind)

    async def settled(self, expected: dict[str, int], timeout_seconds: float = 240) -> None:
        """Wait for these numbers of messages by status."""
        statuses: Callable[[], bool] = lambda: self.campaign.statuses() == expected  # noqa: E731
        try:
            await eventually(statuses, timeout_seconds, "the statuses")
        except AssertionError as error:
            raise AssertionError(f"{self.campaign.statuses()}, not {expected}") from error


@asynccontextmanager
async def sandbox_client(directory: Path, **knobs: object) -> AsyncIterator[SandboxClient]:
    """A sandbox of its own process."""
    directory.mkdir()
    given = json.dumps({"email": {**QUIET, **knobs}})
    async with (
        sandbox_process(directory, KNOBS=given) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        yield SandboxClient(sandbox.url, session)


@asynccontextmanager
async def sender_email_rig(
    nats_url: str,
    directory: Path,
    *,
    campaign: EmailCampaignDouble | None = None,
    knobs: dict[str, object] | None = None,
    **changes: object,
) -> AsyncIterator[EmailRig]:
    """A running sender; at the end it is drained. Its journals are in `journals`."""
    campaign = campaign or EmailCampaignDouble()
    async with (
        commits_waited_for(),
        campaign.serving() as campaign_address,
        sandbox_client(directory / "sandbox", **(knobs or {})) as sandbox,
    ):
        settings = sender_email_settings(
            nats_url=nats_url,
            campaign=campaign_address,
            sendgrid=sandbox.url,
            journal_dir=directory / "journals",
            **changes,
        )
        stop = asyncio.Event()
        jobs = Jobs(nats_url, campaign.organisation_id, campaign.campaign_id, Channel.EMAIL)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(settings, stop))
            try:
                yield EmailRig(campaign, sandbox, settings, jobs, stop)
            finally:
                stop.set()
