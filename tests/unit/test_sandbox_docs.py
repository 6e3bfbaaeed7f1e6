from pathlib import Path

from services.sandbox.knobs import Knobs
from services.sandbox.sendgrid.control import PATHS
from services.sandbox.sendgrid.knobs import EmailKnobs
from services.sandbox.settings import SandboxSettings

DOCS = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_every_knob_is_documented() -> None:
    names = [*Knobs.model_fields, *EmailKnobs.model_fields]
    assert [name for name in names if f"| `{name}` |" not in DOCS] == []


def test_every_setting_is_documented() -> None:
    names = [f"OUTREACH_SANDBOX_{name.upper()}" for name in SandboxSettings.model_fields]
    assert [name for name in names if f"| `{name}` |" not in DOCS] == []


def test_every_endpoint_for_emails_is_documented() -> None:
    assert [path for path in PATHS if f" {path}" not in DOCS] == []


def test_descriptions_of_email_knobs_are_those_of_the_code() -> None:
    for name, field in EmailKnobs.model_fields.items():
        row = next(line for line in DOCS.splitlines() if line.startswith(f"| `{name}` |")
                   and line.endswith(f"| {field.description} |"))  # fmt: skip
        assert row
