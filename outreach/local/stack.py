"""The whole system on one machine: PostgreSQL, NATS, the sandbox and every service, as processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

from outreach.client import OutreachClient
from outreach.client.connection import default_export_address
from outreach.local.embedded import EmbeddedNats, EmbeddedPostgres, temporary_data_dir
from outreach.local.health import http_healthy
from outreach.local.sandbox_client import SandboxClient
from outreach.local.stack_state import StackPorts, StackSecrets
from outreach.local.supervisor import ProcessEvent, ProcessSpec, Supervisor
from outreach.organisations import organisation_id
from outreach.rpc.health_check import serving
from outreach.sending.attempt_token import TokenKey

Route = Callable[[str, str, int], int]
"""The port at which a process (or `client`) finds another: given both names, and where that one listens."""

_HOST = "127.0.0.1"
_ORGANISATION_NAME = "Example organisation"
# Made up, in Twilio's form; only the sandbox knows this account.
_ACCOUNT_SID = "AC" + "5a17d0b0c" * 3 + "5a17d"
_MESSAGING_SERVICE_SID = "MG" + "5a17d0b0c" * 3 + "5a17d"
_HEALTH_CALL_SECONDS_MAX = 2.0
_SERVICE_READY_SECONDS_MAX = 90.0
_SERVICE_GRACE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How to compose a local stack.

    Attributes:
        data_dir: keeps data, secrets and ports; None: a temporary one, removed at the end.
        campaign_replicas: processes of the campaign service.
        sender_replicas: processes of the SMS sender.
        email_sender_replicas: processes of the email sender.
        export_replicas: processes of the export service.
        ports: ports by listener (`campaign-1`, `sandbox`, …); the others are free ones.
        settings: environment for all services, as in `OUTREACH_ASSUMED_DELIVERED_AFTER_SECONDS`.
        knobs: the sandbox's first knobs; a data directory keeps what was set later.
        seed: of the sandbox's fates.
        segments_per_second_max: the organisation's pace of SMS.
        emails_per_second_max: its pace of email; None: as fast as the sandbox takes it.
        durable: False lets PostgreSQL lose its last commits in a crash, and be faster.
        restart: start a process again that dies.
        process_settings: environment for one process, by its name.
        launcher: a module that is run with a service's module as its argument, and runs that.
        route: leads processes to each other through something in between, a proxy.
        own_servers: PostgreSQL and NATS are embedded, whatever the environment says.
        on_event: called when a process starts, gets healthy, dies or stops.
    """

    data_dir: Path | None = None
    campaign_replicas: int = 1
    sender_replicas: int = 1
    email_sender_replicas: int = 1
    export_replicas: int = 1
    ports: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    seed: str = "outreach"
    segments_per_second_max: int = 2_000
    emails_per_second_max: int | None = None
    durable: bool = True
    restart: bool = True
    process_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    launcher: str | None = None
    route: Route | None = None
    own_servers: bool = False
    on_event: Callable[[ProcessEvent], None] | None = None


class LocalStack:
    """A running stack; an async context manager that returns once every process is healthy.

    `OUTREACH_POSTGRES_DSN` and `OUTREACH_NATS_URL`, when set, are used in place of the embedded
    servers. However it is left, no process stays behind, and no file unless there is a `data_dir`.

    Processes, by the names that `supervisor` knows: `postgres`, `nats`, `sandbox`, `campaign-1`…,
    `sender-sms-1`…, `sender-email-1`…, `export-1`….

    Raises:
        StartFailed: a process did not become healthy; says which, with the end of its log.
    """

    def __init__(self, options: StackOptions | None = None) -> None:
        self.options = options or StackOptions()
        self._cleanup = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._cleanup.aclose()

    def client(self) -> OutreachClient:
        """A new client of the first campaign service and of the first export service; close it after use."""
        return OutreachClient(self.address, self.api_key, export_address=self.export_address)

    def sandbox_client(self) -> SandboxClient:
        """A new client of the sandbox's own endpoints; close it after use."""
        return SandboxClient(self.sandbox_url)

    @property
    def address(self) -> str:
        """Where the public API is; `addresses` has one for each replica."""
        return self.addresses[0]

    @property
    def export_address(self) -> str:
        """Where exports are; without an export service its own default."""
        return next(iter(self.export_addresses), default_export_address(self.address))

    @property
    def token_key(self) -> TokenKey:
        """Signs the tokens in callback URLs and in emails' custom arguments."""
        return TokenKey(self._secrets.attempt_token_key)

    @property
    def event_url(self) -> str:
        """Where SendGrid posts the organisation's events."""
        token = self.token_key.sign_organisation(self.organisation_id)
        return f"{self.email_urls[0]}/sendgrid/events/{token}"

    @property
    def exports(self) -> dict[str, str]:
        """The environment with which the `outreach` command talks to this stack."""
        return {
            "OUTREACH_ADDRESS": self.address,
            "OUTREACH_EXPORT_ADDRESS": self.export_address,
            "OUTREACH_API_KEY": self.api_key,
        }

    def describe(self) -> dict[str, Any]:
        """Where everything is, as data."""
        return {
            "address": self.address,
            "addresses": self.addresses,
            "export_addresses": self.export_addresses,
            "api_key": self.api_key,
            "organisation_id": str(self.organisation_id),
            "sandbox_url": self.sandbox_url,
            "webhook_urls": self.webhook_urls,
            "email_urls": self.email_urls,
            "postgres_dsn": self.postgres_dsn,
            "nats_url": self.nats_url,
            "data_dir": str(self.data_dir),
            "log_dir": str(self.log_dir),
            "processes": {name: self.supervisor.pid(name) for name in self.process_names},
        }

    async def _start(self) -> None:
        options = self.options
        if options.data_dir is None:
            self.data_dir = temporary_data_dir()
            self._cleanup.push_async_callback(_remove, self.data_dir)
        else:
            self.data_dir = options.data_dir.resolve()
            self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir = self.data_dir / "log"
        self._secrets = StackSecrets.load(self.data_dir / "secrets.json")
        self.api_key = self._secrets.api_key
        self.organisation_id = organisation_id(_ORGANISATION_NAME)
        self._take_ports()
        specs = self._server_specs()
        specs.append(self._sandbox_spec())
        specs += [self._campaign_spec(index) for index in range(options.campaign_replicas)]
        specs += [self._sender_sms_spec(index) for index in range(options.sender_replicas)]
        specs += [self._sender_email_spec(index) for index in range(options.email_sender_replicas)]
        specs += [self._export_spec(index) for index in range(options.export_replicas)]
        self.process_names = [spec.name for spec in specs]
        self.supervisor = Supervisor(
            specs, self.log_dir, on_event=options.on_event, restart=options.restart
        )
        await self._cleanup.enter_async_context(self.supervisor)

    def _take_ports(self) -> None:
        options = self.options
        campaigns = [f"campaign-{n + 1}" for n in range(options.campaign_replicas)]
        internals = [f"{name}-internal" for name in campaigns]
        senders = [f"sender-sms-{n + 1}" for n in range(options.sender_replicas)]
        email_senders = [f"sender-email-{n + 1}" for n in range(options.email_sender_replicas)]
        exports = [f"export-{n + 1}" for n in range(options.export_replicas)]
        servers = ["postgres", "nats", "nats-monitoring", "sandbox"]
        ports = StackPorts(self.data_dir / "ports.json", dict(options.ports))
        self._ports = ports.take(
            [*servers, *campaigns, *internals, *senders, *email_senders, *exports]
        )
        self._campaigns = campaigns
        self.addresses = [self._address("client", name) for name in campaigns]
        self.webhook_urls = [f"http://{self._address('sandbox', name)}" for name in senders]
        self.email_urls = [f"http://{self._address('sandbox', name)}" for name in email_senders]
        self.export_addresses = [self._address("client", name) for name in exports]
        self.sandbox_url = f"http://{_HOST}:{self._ports['sandbox']}"

    def _address(self, source: str, target: str, listener: str = "") -> str:
        """Where `source` finds `target`, or that `listener` of it."""
        port, route = self._ports[listener or target], self.options.route
        return f"{_HOST}:{port if route is None else route(source, target, port)}"

    def _url(self, source: str, target: str, url: str) -> str:
        """The URL of a server, as `source` finds it."""
        if self.options.route is None or target not in self._embedded:
            return url
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{self._address(source, target)}").geturl()

    def _server_specs(self) -> list[ProcessSpec]:
        """PostgreSQL and NATS, those that are not given by the environment."""
        specs = []
        given: Mapping[str, str] = {} if self.options.own_servers else os.environ
        self.postgres_dsn = given.get("OUTREACH_POSTGRES_DSN", "")
        if not self.postgres_dsn:
            self.postgres = EmbeddedPostgres(
                self.data_dir / "postgres", self._ports["postgres"], durable=self.options.durable
            )
            self.postgres_dsn = self.postgres.dsn
            specs.append(self.postgres.process_spec(stage=0))
        self.nats_url = given.get("OUTREACH_NATS_URL", "")
        if not self.nats_url:
            self.nats = EmbeddedNats(
                self.data_dir / "nats", self._ports["nats"], self._ports["nats-monitoring"]
            )
            self.nats_url = self.nats.url
            specs.append(self.nats.process_spec(stage=0))
        self._embedded = {spec.name for spec in specs}
        return specs

    def _sandbox_spec(self) -> ProcessSpec:
        port = self._ports["sandbox"]
        token = self.token_key.sign_organisation(self.organisation_id)
        env = {
            "OUTREACH_SANDBOX_HTTP_HOST": _HOST,
            "OUTREACH_SANDBOX_HTTP_PORT": str(port),
            "OUTREACH_SANDBOX_ACCOUNT_SID": _ACCOUNT_SID,
            "OUTREACH_SANDBOX_AUTH_TOKEN": self._secrets.twilio_auth_token,
            "OUTREACH_SANDBOX_MESSAGING_SERVICE_SID": _MESSAGING_SERVICE_SID,
            "OUTREACH_SANDBOX_INBOUND_URL": f"{self.webhook_urls[0]}/twilio/inbound/{token}",
            "OUTREACH_SANDBOX_SENDGRID_API_KEY": self._secrets.sendgrid_api_key,
            "OUTREACH_SANDBOX_SENDGRID_EVENT_URL": self.event_url,
            "OUTREACH_SANDBOX_DATA_DIR": str(_made(self.data_dir / "sandbox")),
            "OUTREACH_SANDBOX_SEED": self.options.seed,
            "OUTREACH_SANDBOX_KNOBS": orjson.dumps(
                dict(self.options.knobs), option=orjson.OPT_NON_STR_KEYS
            ).decode(),
        }
        return self._service_spec("sandbox", "services.sandbox", env, _http_check(port), stage=0)

    def _campaign_spec(self, index: int) -> ProcessSpec:
        name = f"campaign-{index + 1}"
        port = self._ports[name]
        env = {
            "OUTREACH_CAMPAIGN_GRPC_HOST": _HOST,
            "OUTREACH_CAMPAIGN_GRPC_PORT": str(port),
            "OUTREACH_CAMPAIGN_INTERNAL_HOST": _HOST,
            "OUTREACH_CAMPAIGN_INTERNAL_PORT": str(self._ports[f"{name}-internal"]),
            "OUTREACH_SECRET_KEY": self._secrets.secret_key,
            "OUTREACH_EXPORT_ROLE_PASSWORD": self._secrets.export_role_password,
            "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": _ORGANISATION_NAME,
            "OUTREACH_BOOTSTRAP_API_KEY": self._secrets.api_key,
            "OUTREACH_BOOTSTRAP_TWILIO_ACCOUNT_SID": _ACCOUNT_SID,
            "OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN": self._secrets.twilio_auth_token,
            "OUTREACH_BOOTSTRAP_TWILIO_MESSAGING_SERVICE_SID": _MESSAGING_SERVICE_SID,
            "OUTREACH_BOOTSTRAP_SEGMENTS_PER_SECOND_MAX": str(self.options.segments_per_second_max),
            "OUTREACH_BOOTSTRAP_PRICE_PER_SEGMENT_MICROS": "7900",
            "OUTREACH_BOOTSTRAP_CURRENCY_CODE": "USD",
            "OUTREACH_BOOTSTRAP_SENDGRID_API_KEY": self._secrets.sendgrid_api_key,
        }
        if self.options.emails_per_second_max is not None:
            pace = str(self.options.emails_per_second_max)
            env["OUTREACH_BOOTSTRAP_EMAILS_PER_SECOND_MAX"] = pace
        healthy = _grpc_check(f"{_HOST}:{port}")
        return self._service_spec(name, "services.campaign", env, healthy, stage=1)

    def _sender_sms_spec(self, index: int) -> ProcessSpec:
        name = f"sender-sms-{index + 1}"
        env = {
            **self._sending_env(name, index),
            "OUTREACH_SENDER_SMS_HTTP_HOST": _HOST,
            "OUTREACH_SENDER_SMS_HTTP_PORT": str(self._ports[name]),
            "OUTREACH_SENDER_SMS_WEBHOOK_URL": self.webhook_urls[index],
            "OUTREACH_SENDER_JOURNAL_DIR": str(_made(self.data_dir / "sender-journal")),
            "OUTREACH_TWILIO_API_URL": f"http://{self._address(name, 'sandbox')}",
        }
        healthy = _http_check(self._ports[name])
        return self._service_spec(name, "services.sender_sms", env, healthy, stage=2)

    def _sender_email_spec(self, index: int) -> ProcessSpec:
        name = f"sender-email-{index + 1}"
        env = {
            **self._sending_env(name, index),
            "OUTREACH_SENDER_EMAIL_HTTP_HOST": _HOST,
            "OUTREACH_SENDER_EMAIL_HTTP_PORT": str(self._ports[name]),
            "OUTREACH_SENDER_EMAIL_PUBLIC_URL": self.email_urls[index],
            "OUTREACH_SENDER_JOURNAL_DIR": str(_made(self.data_dir / "sender-email-journal")),
            "OUTREACH_SENDGRID_API_URL": f"http://{self._address(name, 'sandbox')}",
        }
        healthy = _http_check(self._ports[name])
        return self._service_spec(name, "services.sender_email", env, healthy, stage=2)

    def _export_spec(self, index: int) -> ProcessSpec:
        name = f"export-{index + 1}"
        owner = urlsplit(self._url(name, "postgres", self.postgres_dsn))
        login = f"outreach_export:{self._secrets.export_role_password}"
        env = {
            "OUTREACH_EXPORT_GRPC_HOST": _HOST,
            "OUTREACH_EXPORT_GRPC_PORT": str(self._ports[name]),
            "OUTREACH_EXPORT_POSTGRES_DSN": owner._replace(
                netloc=f"{login}@{owner.netloc.rpartition('@')[2]}"
            ).geturl(),
        }
        healthy = _grpc_check(f"{_HOST}:{self._ports[name]}")
        return self._service_spec(name, "services.export", env, healthy, stage=2)

    def _sending_env(self, name: str, index: int) -> dict[str, str]:
        """What every sender needs. Each begins with another replica of the campaign service."""
        turn = index % len(self._campaigns)
        replicas = [*self._campaigns[turn:], *self._campaigns[:turn]]
        internal = [self._address(name, replica, f"{replica}-internal") for replica in replicas]
        return {
            # gRPC's form of several addresses of one service: the next one when one does not answer.
            "OUTREACH_CAMPAIGN_INTERNAL_ADDRESS": f"ipv4:{','.join(internal)}",
            "OUTREACH_ATTEMPT_TOKEN_KEY": self._secrets.attempt_token_key,
        }

    def _service_spec(
        self,
        name: str,
        module: str,
        env: Mapping[str, str],
        healthy: Callable[[], Awaitable[bool]],
        *,
        stage: int,
    ) -> ProcessSpec:
        shared = {
            "OUTREACH_POSTGRES_DSN": self._url(name, "postgres", self.postgres_dsn),
            "OUTREACH_NATS_URL": self._url(name, "nats", self.nats_url),
            "OUTREACH_INTERNAL_TOKEN": self._secrets.internal_token,
        }
        options = self.options
        launched = [module] if options.launcher is None else [options.launcher, module]
        own = options.process_settings.get(name, {})
        return ProcessSpec(
            name=name,
            argv=[sys.executable, "-m", *launched],
            env={**shared, **env, **options.settings, **own},
            healthy=healthy,
            stage=stage,
            ready_seconds_max=_SERVICE_READY_SECONDS_MAX,
            grace_seconds=_SERVICE_GRACE_SECONDS,
        )


def _http_check(port: int) -> Callable[[], Awaitable[bool]]:
    async def healthy() -> bool:
        return await http_healthy(port, "/healthz")

    return healthy


def _grpc_check(address: str) -> Callable[[], Awaitable[bool]]:
    async def healthy() -> bool:
        return await serving(address, timeout_seconds=_HEALTH_CALL_SECONDS_MAX)

    return healthy


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


async def _remove(directory: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
