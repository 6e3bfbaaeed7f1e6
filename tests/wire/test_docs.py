"""The documents: generated blocks are current, links lead somewhere, commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from outreach.postgres.migrate import MIGRATIONS_DIR
from scripts import docs
from scripts.service_settings import settings_classes

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_PATH = re.compile(
    r"`((?:outreach|services|scripts|protos|tests|deploy|docs|bench|examples)/[\w./*-]+)`"
)


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_generated_blocks_are_as_the_code_gives_them() -> None:
    assert docs.drift() == []


def test_everything_public_has_a_text() -> None:
    assert docs.missing_texts() == []


def test_a_changed_block_is_noticed() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text()
    changed = text.replace("| `WAITING` |", "| `LINGERING` |", 1)
    assert changed != text
    assert docs.rendered("lifecycle.md", changed) == text


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the markers"):
        docs.rendered("settings.md", "# Settings\n")


@pytest.mark.parametrize("path", DOCUMENTS, ids=_ids)
def test_links_lead_somewhere(path: Path) -> None:
    for target in _LINK.findall(path.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{_ids(path)} → {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{_ids(path)} → {target}"


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCUMENTS, ids=_ids)
def test_named_files_are_there(path: Path) -> None:
    for name in _PATH.findall(path.read_text()):
        assert list(ROOT.glob(name.rstrip("/."))), f"{_ids(path)} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_ids)
def test_no_place_of_our_machines_is_named(path: Path) -> None:
    assert not re.search(r"/wor[k]/|\.\./shared|pypi|index-url", path.read_text())


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = set(re.findall(r"`make ([a-z]+)", path.read_text()))
        named |= set(re.findall(r"^make ([a-z]+)", path.read_text(), re.MULTILINE))
        assert named <= targets, _ids(path)


def _variables_of_the_command() -> set[str]:
    text = "".join(path.read_text() for path in (ROOT / "outreach" / "cli").glob("*.py"))
    return set(re.findall(r"\bOUTREACH_[A-Z_]*[A-Z]\b", text))


def test_settings_that_are_named_exist() -> None:
    known = set(re.findall(r"`(OUTREACH_\w+)`", (ROOT / "docs" / "settings.md").read_text()))
    for path in DOCUMENTS:
        named = set(re.findall(r"\bOUTREACH_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
        streams = {"OUTREACH_JOBS", "OUTREACH_INBOX"}
        client = _variables_of_the_command()
        assert named - streams - client <= known, _ids(path)


def test_commands_of_the_tour_exist() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "operations.md").read_text()
    commands = set(
        re.findall(
            r"(?:^|\s)outreach ((?:campaign|contacts|attachments|messages) [a-z-]+|up|demo|version)\b",
            text,
        )
    )
    assert commands
    for command in sorted(commands):
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                "from outreach.cli.app import main; main()",
                *command.split(),
                "--help",
            ],
            check=False,
            capture_output=True,
            timeout=60,
            cwd=ROOT,
        )
        assert result.returncode == 0, command


def test_every_decision_is_in_the_list() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    records = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    assert records
    for number, record in enumerate(records, start=1):
        assert record.name.startswith(f"{number:04d}-")
        assert f"({record.name})" in index
        text = record.read_text()
        for part in ("## Context", "## Decision", "## Consequences"):
            assert part in text, f"{record.name} lacks {part}"


def test_the_migrations_can_be_undone_on_a_developers_machine() -> None:
    for path in MIGRATIONS_DIR.glob("*.sql"):
        assert "-- migrate:up" in path.read_text()
        assert "-- migrate:down" in path.read_text()


def _explained_events() -> set[str]:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("## Log events")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return set(re.findall(r"`([^`]+)`", " ".join(rows)))


def _production_code() -> str:
    paths = [
        path
        for package in ("outreach", "services")
        for path in (ROOT / package).rglob("*.py")
        if "sandbox" not in path.parts and "local" not in path.parts
    ]
    return "".join(path.read_text() for path in paths)


def test_log_events_that_operations_explains_are_logged() -> None:
    events, code = _explained_events(), _production_code()
    assert len(events) > 20
    assert {event for event in events if f'"{event}"' not in code} == set()


def test_every_warning_and_error_is_explained() -> None:
    logged = re.findall(
        r"\b_?log\.(?:warning|error|exception)\(\s*\"([^\"]+)\"", _production_code()
    )
    assert logged
    assert set(logged) - _explained_events() == set()


def test_defaults_that_operations_names_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text().partition("## Timers")[2]
    named = dict(re.findall(r"^\| `(OUTREACH_\w+)` \| (\d+) \|", text, re.MULTILINE))
    assert named
    defaults = {
        setting.name: setting.default for found in settings_classes() for setting in found.settings
    }
    assert {name: defaults[name] for name in named} == named
