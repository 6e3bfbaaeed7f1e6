"""docker-compose.yml and what makes its .env, for the tests that hold them to the code."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: `${NAME:?text}`, or `${NAME?text}` for what has to be there and may be empty.
VARIABLE = re.compile(r"\$\{(\w+)(?::?\?[^}]*)?\}")


def make_env_script() -> Any:
    """deploy/make_env.py as a module."""
    spec = importlib.util.spec_from_file_location("make_env", ROOT / "deploy" / "make_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
