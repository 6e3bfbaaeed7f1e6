"""The breaks of the product: one for each invariant, and each still finds in the product what it breaks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chaos.breaking import seed_for
from chaos.breaks import BREAKS
from chaos.checker import INVARIANTS

_IMPORTED = "services.campaign.app, services.sender_sms.app, services.sender_email.app"


def test_each_invariant_has_a_break() -> None:
    assert {broken.invariant for broken in BREAKS.values()} == INVARIANTS.keys()


def test_each_break_still_finds_what_it_breaks() -> None:
    # In a process of its own, as they change the product; before the services, as in a run.
    program = f"from chaos.breaks import BREAKS; [b() for b in BREAKS.values()]; import {_IMPORTED}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", BREAKS)
def test_a_seed_gives_each_break_an_occasion(name: str) -> None:
    assert seed_for(BREAKS[name]) < 100
