"""Texts from files."""

from __future__ import annotations

from pathlib import Path

import typer


def read_text(path: Path, option: str) -> str:
    """A file of UTF-8 text, without the line break at its end; raises typer.BadParameter."""
    try:
        # A file from an editor may begin with a byte order mark, which is no part of the text.
        return path.read_text("utf-8-sig").rstrip("\n")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text", param_hint=option) from error
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error
