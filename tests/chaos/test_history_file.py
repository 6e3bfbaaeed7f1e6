"""A history is kept as one JSON document, and comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.checker import check
from chaos.history_file import read_history, write_history
from tests.chaos.good_history import good_history


@pytest.mark.parametrize("name", ["history.json", "history.json.gz"])
def test_it_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    history = good_history()
    write_history(history, tmp_path / name)
    back = read_history(tmp_path / name)
    assert back == history
    assert check(back) == []


def test_it_is_compressed_where_the_name_says_so(tmp_path: Path) -> None:
    write_history(good_history(), tmp_path / "history.json")
    write_history(good_history(), tmp_path / "history.json.gz")
    assert (tmp_path / "history.json").read_bytes().startswith(b'{"seed":7,')
    assert (tmp_path / "history.json.gz").read_bytes().startswith(b"\x1f\x8b")


def test_the_same_history_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one.json.gz", "other.json.gz"):
        write_history(good_history(), tmp_path / name)
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "other.json.gz").read_bytes()


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text('{"seed": 7}')
    with pytest.raises(ValueError, match="bounds"):
        read_history(path)
