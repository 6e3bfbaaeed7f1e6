from pathlib import Path

from services.sandbox.knobs import Knobs
from services.sandbox.settings import SandboxSettings

DOCS = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_every_knob_is_documented() -> None:
    assert [name for name in Knobs.model_fields if f"| `{name}` |" not in DOCS] == []


def test_every_setting_is_documented() -> None:
    names = [f"OUTREACH_SANDBOX_{name.upper()}" for name in SandboxSettings.model_fields]
    assert [name for name in names if f"| `{name}` |" not in DOCS] == []
