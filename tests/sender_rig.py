"""A sender under test with its peers: real gRPC, real NATS, real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from pydantic import SecretStr

from outreach.jetstream.jobs import Job, JobKind
from outreach.jetstream.stops import Stop
from outreach.jetstream.topology import job_subject, stops_subject
from outreach.local.ports import free_port
from outreach.sending import opt_outs
from outreach.vocabulary import Channel
from services.sender_sms.app import serve
from services.sender_sms.settings import SenderSmsSettings
from tests.campaign_double import TOKEN, CampaignDouble
from tests.twilio_double import TwilioDouble
from tests.waiting import eventually

TOKEN_KEY = "attempt-token-key-of-the-tests-0123456789"


def sender_settings(
    *, nats_url: str, campaign: str, twilio: str, journal_dir: Path, **changes: object
) -> SenderSmsSettings:
    port = free_port()
    values: dict[str, object] = {
        "nats_url": nats_url,
        "campaign_internal_address": campaign,
        "internal_token": SecretStr(TOKEN),
        "attempt_token_key": SecretStr(TOKEN_KEY),
        "sender_journal_dir": journal_dir,
        "sender_sms_http_port": port,
        "sender_sms_webhook_url": f"http://127.0.0.1:{port}/hooks",
        "twilio_api_url": twilio,
        # Longer than a test holds anything.
        "sender_sms_request_seconds_max": 120.0,
        "sender_drain_seconds_max": 30.0,
        **changes,
    }
    return SenderSmsSettings.model_validate(values)


async def _exists(jetstream: JetStreamContext, channel: Channel) -> bool:
    try:
        await jetstream.consumer_info("OUTREACH_JOBS", f"{channel.name.lower()}-senders")
        await jetstream.consumer_info("OUTREACH_INBOX", f"{channel.name.lower()}-inbox")
    except NotFoundError:
        return False
    return True


class Jobs:
    """Publishes jobs as the dispatcher does."""

    def __init__(
        self,
        nats_url: str,
        organisation_id: UUID,
        campaign_id: UUID,
        channel: Channel = Channel.SMS,
    ) -> None:
        self._nats_url = nats_url
        self._channel = channel
        self._organisation_id = organisation_id
        self._campaign_id = campaign_id
        self._epoch = 0

    async def publish(self, first: int, last: int, *, kind: JobKind = "send") -> None:
        self._epoch += 1
        job = Job(kind, self._organisation_id, self._campaign_id, 1, first, last, self._epoch)
        await self.publish_raw(job.encode())

    async def publish_raw(self, payload: bytes) -> None:
        await self.ready()
        connection = await nats.connect(self._nats_url)
        try:
            jetstream = connection.jetstream()
            subject = job_subject(self._channel, self._organisation_id, self._campaign_id)
            await jetstream.publish(subject, payload)
        finally:
            await connection.close()

    async def tell_stop(self, run: int = 1) -> None:
        """As the campaign service does after a stop."""
        await self.tell_raw_stop(Stop(self._campaign_id, run).encode())

    async def tell_raw_stop(self, payload: bytes) -> None:
        connection = await nats.connect(self._nats_url)
        try:
            await connection.publish(stops_subject(self._channel), payload)
            await connection.flush()
        finally:
            await connection.close()

    async def none_left(self) -> None:
        """Wait until every job is acknowledged."""

        async def none() -> bool:
            return await self.left() == 0

        condition: Callable[[], Awaitable[bool]] = none
        await eventually(condition, 60, "every job is acknowledged")

    async def ready(self) -> None:
        """Wait until the sender has set up the streams."""
        connection = await nats.connect(self._nats_url)
        try:
            exist: Callable[[], Awaitable[bool]] = partial(
                _exists, connection.jetstream(), self._channel
            )
            await eventually(exist, 60, "the sender made the consumers")
        finally:
            await connection.close()

    async def wipe(self) -> None:
        """Delete every stream."""
        connection = await nats.connect(self._nats_url)
        try:
            for name in ("OUTREACH_JOBS", "OUTREACH_INBOX"):
                await connection.jetstream().delete_stream(name)
        finally:
            await connection.close()

    async def left(self) -> int:
        """Jobs that are not acknowledged."""
        connection = await nats.connect(self._nats_url)
        try:
            info = await connection.jetstream().stream_info("OUTREACH_JOBS")
            return int(info.state.messages)
        finally:
            await connection.close()


@asynccontextmanager
async def commits_waited_for(seconds_max: float = 60.0) -> AsyncIterator[None]:
    """So long an answered opt-out waits for its commit, before it is stored as well: what a busy machine takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opt_outs, "COMMIT_SECONDS_MAX", seconds_max)
        yield


@dataclass
class Rig:
    campaign: CampaignDouble
    twilio: TwilioDouble
    settings: SenderSmsSettings
    jobs: Jobs
    stop: asyncio.Event

    async def send(self, count: int) -> None:
        """Add messages and dispatch them."""
        first = len(self.campaign.messages) + 1
        self.campaign.add(count)
        await self.jobs.publish(first, first + count - 1)


@asynccontextmanager
async def sender_rig(
    nats_url: str,
    journal_dir: Path,
    *,
    campaign: CampaignDouble | None = None,
    **changes: object,
) -> AsyncIterator[Rig]:
    """A running sender; at the end it is drained."""
    campaign = campaign or CampaignDouble()
    twilio = TwilioDouble()
    async with (
        commits_waited_for(),
        campaign.serving() as campaign_address,
        twilio.serving() as twilio_url,
    ):
        settings = sender_settings(
            nats_url=nats_url,
            campaign=campaign_address,
            twilio=twilio_url,
            journal_dir=journal_dir,
            **changes,
        )
        stop = asyncio.Event()
        jobs = Jobs(nats_url, campaign.organisation_id, campaign.campaign_id)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(settings, stop))
            try:
                yield Rig(campaign, twilio, settings, jobs, stop)
            finally:
                stop.set()
