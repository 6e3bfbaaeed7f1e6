"""Streams, consumers and subjects, declared once.

JetStream carries pointers and the webhook inbox. Nothing in it is the truth: a wiped store is set up again by
`ensure_topology` and refilled from Postgres.
"""

from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from outreach.vocabulary import Channel

JOBS_STREAM = "OUTREACH_JOBS"
INBOX_STREAM = "OUTREACH_INBOX"

#: A job not acknowledged or extended within this time is given to another sender.
JOB_ACK_WAIT_SECONDS = 3
#: An inbox entry not acknowledged within this time is forwarded again.
INBOX_ACK_WAIT_SECONDS = 5
#: Most jobs handed out and not acknowledged, per channel.
JOBS_PENDING_MAX = 256
#: Most inbox entries handed out and not acknowledged, per channel.
INBOX_PENDING_MAX = 4096
#: A suppression not acknowledged or put off within this time is pushed again, by any sender.
SUPPRESSIONS_ACK_WAIT_SECONDS = 60
#: Most suppressions handed out and not acknowledged, those that are put off among them.
SUPPRESSIONS_PENDING_MAX = 20_000

STREAMS = (
    StreamConfig(
        name=JOBS_STREAM,
        subjects=["outreach.jobs.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msgs=1_000_000,
        max_bytes=512 * 1024 * 1024,
        max_age=24 * 3600,
        duplicate_window=120,
    ),
    StreamConfig(
        name=INBOX_STREAM,
        subjects=["outreach.inbox.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,  # full: the webhook answers 5xx and the provider tries again
        max_bytes=2 * 1024 * 1024 * 1024,
        max_msg_size=2 * 1024 * 1024,
        duplicate_window=120,
    ),
)


def channel_token(channel: Channel) -> str:
    """The channel's word in subjects and consumer names."""
    return channel.name.lower()


def job_subject(channel: Channel, organisation_id: UUID, campaign_id: UUID) -> str:
    """Where a campaign's jobs are published."""
    return f"outreach.jobs.{channel_token(channel)}.{organisation_id}.{campaign_id}"


def inbox_subject(channel: Channel) -> str:
    """Where verified webhooks of a channel are stored."""
    return f"outreach.inbox.{channel_token(channel)}"


def suppressions_subject(channel: Channel) -> str:
    """Where recipients wait who are to be entered in the provider's own suppression list."""
    return f"{inbox_subject(channel)}.suppressions"


def event_subject(organisation_id: UUID, campaign_id: UUID) -> str:
    """Core NATS (not stored): told after each commit that changed the campaign; the payload is its revision."""
    return f"outreach.events.{organisation_id}.{campaign_id}"


def stops_subject(channel: Channel) -> str:
    """Core NATS (not stored): told after the commit of a stop; the payload is a `Stop`."""
    return f"outreach.stops.{channel_token(channel)}"


def jobs_consumer(channel: Channel) -> ConsumerConfig:
    """The durable consumer that all senders of a channel share."""
    return ConsumerConfig(
        durable_name=f"{channel_token(channel)}-senders",
        filter_subject=f"outreach.jobs.{channel_token(channel)}.>",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=JOB_ACK_WAIT_SECONDS,
        max_ack_pending=JOBS_PENDING_MAX,
    )


def inbox_consumer(channel: Channel) -> ConsumerConfig:
    """The durable consumer that forwards a channel's webhooks."""
    return ConsumerConfig(
        durable_name=f"{channel_token(channel)}-inbox",
        filter_subject=inbox_subject(channel),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=INBOX_ACK_WAIT_SECONDS,
        max_ack_pending=INBOX_PENDING_MAX,
    )


def suppressions_consumer(channel: Channel) -> ConsumerConfig:
    """The durable consumer that pushes suppressions to the provider: its own, so that it holds up no report."""
    return ConsumerConfig(
        durable_name=f"{channel_token(channel)}-suppressions",
        filter_subject=suppressions_subject(channel),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=SUPPRESSIONS_ACK_WAIT_SECONDS,
        max_ack_pending=SUPPRESSIONS_PENDING_MAX,
    )


async def ensure_topology(js: JetStreamContext, channels: tuple[Channel, ...]) -> None:
    """Make the streams and these channels' consumers where they are missing. Safe to repeat, from any process."""
    for config in STREAMS:
        assert config.name is not None
        try:
            # Asked first: a second "add" of the same stream is refused while its limit alone fills most of the
            # server's store, because the server counts the reservation twice.
            await js.stream_info(config.name)
        except NotFoundError:
            await js.add_stream(config)
    for channel in channels:
        await js.add_consumer(JOBS_STREAM, jobs_consumer(channel))
        await js.add_consumer(INBOX_STREAM, inbox_consumer(channel))
        if channel is Channel.EMAIL:
            await js.add_consumer(INBOX_STREAM, suppressions_consumer(channel))
