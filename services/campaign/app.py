"""The composition root: settings become a running service, and an orderly end of it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from outreach.background import until_cancelled
from outreach.cancellation import raise_if_cancelled
from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.jetstream.connection import NATS_FAULTS, NatsConnection, nats_connection
from outreach.jetstream.topology import ensure_topology
from outreach.permissions import CAMPAIGN_ROLES
from outreach.postgres.migrate import migrate
from outreach.postgres.pool import create_pool
from outreach.rpc.call import Caller
from outreach.rpc.interceptors.authentication import AuthenticationInterceptor
from outreach.rpc.interceptors.deadline import DeadlineInterceptor
from outreach.rpc.interceptors.internal_token import InternalTokenInterceptor
from outreach.rpc.server import OPEN_SERVICES, RpcServer, Service
from outreach.serving import closed, follow_health, stop_on_signals
from outreach.tokens import TokenSigner
from outreach.v1 import (
    attachment_pb2,
    attachment_pb2_grpc,
    campaign_pb2,
    campaign_pb2_grpc,
    contact_pb2,
    contact_pb2_grpc,
    failure_catalogue_pb2,
    failure_catalogue_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    suppression_pb2,
    suppression_pb2_grpc,
    test_send_pb2,
    test_send_pb2_grpc,
    watch_pb2,
)
from outreach.vocabulary import Channel
from services.campaign.bootstrap import bootstrap
from services.campaign.deletions import Deletions
from services.campaign.delivery.claims import Claims
from services.campaign.delivery.content import Contents
from services.campaign.delivery.dispatcher import Dispatcher
from services.campaign.delivery.look_ups import LookUps
from services.campaign.delivery.reports import Reports
from services.campaign.delivery.servicer import DeliveryServicer
from services.campaign.delivery.sweepers import Sweepers, Timers
from services.campaign.export_role import ensure_export_role
from services.campaign.retention import Retention, RetentionTerms
from services.campaign.rpc.attachments import AttachmentServicer
from services.campaign.rpc.campaigns import CampaignServicer
from services.campaign.rpc.contacts import ContactServicer
from services.campaign.rpc.failures import FailureCatalogueServicer
from services.campaign.rpc.messages import MessageServicer
from services.campaign.rpc.pages import PageTokens
from services.campaign.rpc.suppressions import SuppressionServicer
from services.campaign.rpc.test_sends import TestSendServicer
from services.campaign.settings import Settings
from services.campaign.store import Connection, Pool
from services.campaign.store.organisations import caller_by_key
from services.campaign.store.requests import purge_request_log
from services.campaign.store.test_sends import purge_test_sends
from services.campaign.usecases.compile_template import TemplateCompiler
from services.campaign.usecases.create_test_send import TestSendTerms
from services.campaign.usecases.import_contacts import ImportTerms
from services.campaign.wakeups import NatsStops, NatsWakeups
from services.campaign.watch.hub import WatchHub
from services.campaign.watch.servicer import WatchServicer
from services.campaign.watch.servicer import add_to as add_watch_to

_log = structlog.get_logger(__name__)

#: An estimate reads every contact, a retry may change every message, an erasure goes through every campaign that has
#: the person, and files that wait for their import; nothing else takes longer than the default.
LONG_CALL_SECONDS_MAX = 120.0
LONG_CALLS = (
    "CampaignService/EstimateCampaign",
    "CampaignService/RetryMessages",
    "SuppressionService/ErasePerson",
)
#: How often streams and consumers are made where they are missing: a wiped NATS comes back empty.
TOPOLOGY_INTERVAL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; one of each a process."""

    settings: Settings
    pool: Pool
    nats: NatsConnection
    dispatcher: Dispatcher
    sweepers: Sweepers
    deletions: Deletions
    retention: Retention
    hub: WatchHub
    campaigns: CampaignServicer
    contacts: ContactServicer
    attachments: AttachmentServicer
    messages: MessageServicer
    suppressions: SuppressionServicer
    failures: FailureCatalogueServicer
    test_sends: TestSendServicer
    watch: WatchServicer
    delivery: DeliveryServicer


def compose(settings: Settings, pool: Pool, nats: NatsConnection) -> Parts:
    """Put the parts together; nothing runs yet."""
    secrets = settings.secrets()
    signer = TokenSigner(secrets.token_keys)
    page_tokens = PageTokens(signer)
    wakeups = NatsWakeups(nats)
    dispatcher = Dispatcher(
        pool,
        nats,
        redispatch_after_seconds=settings.redispatch_after_seconds,
    )
    hub = WatchHub(pool, nats)
    sweepers = Sweepers(pool, wakeups, nats, _timers(settings), purge=_purge)
    stops = NatsStops(nats)

    async def on_stop(channel: Channel, campaign_id: UUID, run: int) -> None:
        await stops.run_stopped(channel, campaign_id, run)
        sweepers.wake()

    import_terms = ImportTerms(secrets.recipient_key, settings.contact_limits())
    deletions = Deletions(pool)
    return Parts(
        settings=settings,
        pool=pool,
        nats=nats,
        dispatcher=dispatcher,
        sweepers=sweepers,
        deletions=deletions,
        retention=Retention(pool, wakeups, deletions, _retention(settings)),
        hub=hub,
        campaigns=CampaignServicer(
            pool,
            page_tokens=page_tokens,
            wakeups=wakeups,
            compiler=TemplateCompiler(),
            on_run=dispatcher.wake,
            on_stop=on_stop,
            on_delete=deletions.wake,
        ),
        contacts=ContactServicer(
            pool,
            page_tokens=page_tokens,
            wakeups=wakeups,
            terms=import_terms,
        ),
        attachments=AttachmentServicer(pool, bytes_max=settings.attachments_bytes_max),
        messages=MessageServicer(
            pool, page_tokens=page_tokens, recipient_key=secrets.recipient_key
        ),
        suppressions=SuppressionServicer(
            pool, page_tokens=page_tokens, wakeups=wakeups, terms=import_terms
        ),
        failures=FailureCatalogueServicer(),
        test_sends=TestSendServicer(
            pool,
            hub,
            terms=TestSendTerms(secrets.recipient_key, settings.contact_field_bytes_max),
            on_run=dispatcher.wake,
        ),
        watch=WatchServicer(pool, hub, signer),
        delivery=DeliveryServicer(
            claims=Claims(pool, wakeups),
            reports=Reports(
                pool,
                wakeups,
                recipient_key=secrets.recipient_key,
                look_up_after_seconds=settings.look_up_after_seconds,
            ),
            look_ups=LookUps(
                pool,
                look_up_after_seconds=settings.look_up_after_seconds,
                email_look_up_after_seconds=settings.email_look_up_after_seconds,
            ),
            contents=Contents(pool, secrets),
            send_window_seconds=settings.send_window_seconds,
        ),
    )


def public_services(parts: Parts) -> list[Service]:
    """What callers with an API key reach."""
    return [
        Service(
            campaign_pb2.DESCRIPTOR.services_by_name["CampaignService"].full_name,
            lambda server: campaign_pb2_grpc.add_CampaignServiceServicer_to_server(
                parts.campaigns, server
            ),
        ),
        Service(
            contact_pb2.DESCRIPTOR.services_by_name["ContactService"].full_name,
            lambda server: contact_pb2_grpc.add_ContactServiceServicer_to_server(
                parts.contacts, server
            ),
        ),
        Service(
            attachment_pb2.DESCRIPTOR.services_by_name["AttachmentService"].full_name,
            lambda server: attachment_pb2_grpc.add_AttachmentServiceServicer_to_server(
                parts.attachments, server
            ),
        ),
        Service(
            message_pb2.DESCRIPTOR.services_by_name["MessageService"].full_name,
            lambda server: message_pb2_grpc.add_MessageServiceServicer_to_server(
                parts.messages, server
            ),
        ),
        Service(
            suppression_pb2.DESCRIPTOR.services_by_name["SuppressionService"].full_name,
            lambda server: suppression_pb2_grpc.add_SuppressionServiceServicer_to_server(
                parts.suppressions, server
            ),
        ),
        Service(
            failure_catalogue_pb2.DESCRIPTOR.services_by_name["FailureCatalogueService"].full_name,
            lambda server: failure_catalogue_pb2_grpc.add_FailureCatalogueServiceServicer_to_server(
                parts.failures, server
            ),
        ),
        Service(
            test_send_pb2.DESCRIPTOR.services_by_name["TestSendService"].full_name,
            lambda server: test_send_pb2_grpc.add_TestSendServiceServicer_to_server(
                parts.test_sends, server
            ),
        ),
        Service(
            watch_pb2.DESCRIPTOR.services_by_name["WatchService"].full_name,
            lambda server: add_watch_to(parts.watch, server),
        ),
    ]


def internal_services(parts: Parts) -> list[Service]:
    """What the senders reach, with the internal token."""
    return [
        Service(
            delivery_pb2.DESCRIPTOR.services_by_name["DeliveryService"].full_name,
            lambda server: delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(
                parts.delivery, server
            ),
        )
    ]


def background_tasks(parts: Parts) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """What runs beside the servers until the end; a failure or an early end of one
    ends the process.
    """
    return {
        "topology": lambda: keep_topology(parts.nats),
        "dispatcher": parts.dispatcher.run,
        "sweepers": parts.sweepers.run,
        "deletions": parts.deletions.run,
        "retention": parts.retention.run,
        "watch-hub": parts.hub.run,
    }


def end_streams(parts: Parts) -> None:
    """Open streams end with UNAVAILABLE, and their clients come again elsewhere."""
    parts.hub.drain()
    parts.delivery.drain()


def servers(parts: Parts) -> tuple[RpcServer, RpcServer]:
    """The public and the internal port."""
    settings = parts.settings

    async def lookup(key_hash: bytes) -> Caller | None:
        async with parts.pool.acquire() as connection:
            return await caller_by_key(connection, key_hash)

    public = RpcServer(
        host=settings.campaign_grpc_host,
        port=settings.campaign_grpc_port,
        services=public_services(parts),
        authentication=AuthenticationInterceptor(
            lookup,
            # Everything there is so far is about campaigns and their recipients.
            roles_allowed=lambda _method: CAMPAIGN_ROLES,
            open_services=OPEN_SERVICES,
        ),
        deadline=DeadlineInterceptor(
            method_seconds={
                f"/outreach.v1.{method}": LONG_CALL_SECONDS_MAX for method in LONG_CALLS
            }
        ),
    )
    internal = RpcServer(
        host=settings.campaign_internal_host,
        port=settings.campaign_internal_port,
        services=internal_services(parts),
        authentication=InternalTokenInterceptor(
            settings.internal_token.get_secret_value(), open_services=OPEN_SERVICES
        ),
    )
    return public, internal


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Starts and serves without NATS; waits for PostgreSQL."""
    stopping = asyncio.Event()
    stop_on_signals(stopping)
    async with (
        nats_connection(settings.nats_url.get_secret_value(), name="campaign") as nats,
        asyncio.TaskGroup() as tasks,
    ):
        starting = tasks.create_task(_started_pool(settings))
        stopped = tasks.create_task(stopping.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        pool = await starting
        try:
            await _serve(compose(settings, pool, nats), stopping)
        finally:
            stopped.cancel()
            await closed(pool)


async def _serve(parts: Parts, stopping: asyncio.Event) -> None:
    listening = servers(parts)

    async def end(grace_seconds: float) -> None:
        await asyncio.gather(
            *(
                server.drain(end_streams=lambda: end_streams(parts), grace_seconds=grace_seconds)
                for server in listening
            )
        )

    try:
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(until_cancelled(name, work()), name=name)
                for name, work in background_tasks(parts).items()
            ]
            for server in listening:
                await server.start()
            health = follow_health(parts.pool, listening)
            background.append(tasks.create_task(until_cancelled("health", health)))
            await stopping.wait()
            _log.info("draining")
            await end(parts.settings.campaign_drain_seconds_max)
            for task in background:
                task.cancel()
    except BaseException:
        await end(0)  # a server that is left open fails once more, without a loop
        raise
    _log.info("stopped")


async def _started_pool(settings: Settings) -> Pool:
    """Schema, connections, and the organisation of the settings."""
    dsn = settings.postgres_dsn.get_secret_value()
    await migrate(dsn, wait_seconds_max=settings.campaign_start_seconds_max)
    pool = await create_pool(
        dsn,
        application_name="campaign",
        connections_max=settings.campaign_postgres_connections_max,
    )
    try:
        await ensure_export_role(pool, settings.export_role_password)
        await bootstrap(pool, settings, settings.secrets())
    except BaseException:
        pool.terminate()
        raise
    return pool


async def keep_topology(nats: NatsConnection) -> None:
    """Make streams and consumers where they are missing, for ever."""
    while True:
        raise_if_cancelled()
        await nats.connected()
        if nats.is_connected:
            try:
                await ensure_topology(nats.jetstream, tuple(Channel))
            except NATS_FAULTS as error:
                _log.warning("topology waits for nats", error=type(error).__name__)
        await asyncio.sleep(TOPOLOGY_INTERVAL_SECONDS)


async def _purge(connection: Connection) -> None:
    """What is kept for a limited time, beside what the delivery itself keeps."""
    await purge_request_log(connection)
    await purge_test_sends(connection)


def _retention(settings: Settings) -> RetentionTerms:
    return RetentionTerms(
        delete_after_days=settings.retention_delete_after_days,
        strip_after_days=settings.retention_strip_after_days,
    )


def _timers(settings: Settings) -> Timers:
    return Timers(
        assumed_delivered_after_seconds=settings.assumed_delivered_after_seconds,
        unconfirmed_after_seconds=settings.unconfirmed_after_seconds,
        look_up_after_seconds=settings.look_up_after_seconds,
        send_window_seconds=settings.send_window_seconds,
        request_seconds_max={
            Channel.SMS: settings.sender_sms_request_seconds_max,
            Channel.EMAIL: settings.sender_email_request_seconds_max,
        },
        email_look_up_after_seconds=settings.email_look_up_after_seconds,
        email_timed_out_after_seconds=settings.email_timed_out_after_seconds,
        change_log_kept_seconds=settings.change_log_kept_seconds,
    )
