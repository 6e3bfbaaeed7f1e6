"""What is shown, and what is kept from a terminal."""

import io

import pytest
import typer
from rich.table import Table
from rich.text import Text

from outreach.cli import demo_view, names, render
from outreach.cli.commands import app
from outreach.cli.output import _PlainTextConsole
from outreach.v1 import campaign_pb2


def shown(what: object, **options: object) -> str:
    out = io.StringIO()
    _PlainTextConsole(file=out, markup=False, highlight=False, width=60, **options).print(what)  # type: ignore[arg-type] # given as they are
    return out.getvalue()


@pytest.mark.parametrize(
    "hidden", ["\x1b[2J", "\x9b2J", "\x07", "\x00", "\x7f", "\u202e", "\u2066", "\u2069", "\u202a"]
)
def test_a_cell_of_a_file_can_not_command_the_terminal(hidden: str) -> None:
    table = Table()
    table.add_column("name")
    table.add_row(Text(f"A{hidden}da"))
    plain, sanitised = Table(), shown(table)
    plain.add_column("name")
    plain.add_row(Text(f"A{hidden[1:]}da"))
    assert sanitised == shown(plain), "gone, and the frame still fits"
    assert hidden[0] not in shown(f"A{hidden}da")


def test_styles_and_line_breaks_are_not_what_is_left_out() -> None:
    styled = shown(Text("a\nb", style="red"), force_terminal=True, color_system="standard")
    assert styled == "\x1b[31ma\x1b[0m\n\x1b[31mb\x1b[0m\n"


def test_a_count_of_one_has_no_plural() -> None:
    summary = campaign_pb2.ContactSummary(rows=1, imported=0, invalid=0, duplicates=1)
    assert render.contacts_line(summary) == "0 imported of 1 row (0 invalid, 1 duplicate)"
    summary = campaign_pb2.ContactSummary(rows=2_000, imported=1_998, invalid=0, duplicates=2)
    assert render.contacts_line(summary).endswith("of 2,000 rows (0 invalid, 2 duplicates)")


def _commands() -> set[str]:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    return {
        f"{name} {command.name or getattr(command.callback, '__name__', '')}"
        for name, group in groups.items()
        if isinstance(group, typer.Typer)
        for command in group.registered_commands
    }


def test_what_can_be_done_is_what_this_program_has_commands_for() -> None:
    """When a command for another action comes, it has to be told too."""
    assert set(names.COMMANDS.values()) <= _commands()
    assert set(names.COMMANDS) == set(campaign_pb2.CampaignAction.values()) - {0}
    allowed = [campaign_pb2.CAMPAIGN_ACTION_RUN, campaign_pb2.CAMPAIGN_ACTION_STOP]
    assert names.campaign_commands(allowed) == ["campaign run", "campaign stop"]


def test_what_to_try_next_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    narrow = _PlainTextConsole(file=out, width=60, force_terminal=True, color_system=None)
    monkeypatch.setattr(demo_view, "remarks", narrow)
    demo_view._what_next(2_000)
    lines = out.getvalue().splitlines()
    assert len(lines) > 8
    assert all(len(line.rstrip()) <= 60 for line in lines)
    assert all(line.startswith(("  outreach ", "      ")) for line in lines)
