import re
from pathlib import Path

import pytest

from outreach.postgres.queries import QueryError, load_queries, parse_queries

TEXT = """
-- Statements of the test.

-- name: first
-- Why it is so.
SELECT 1
 WHERE true;

-- name: second
SELECT '-- name: not_a_name';
"""


def test_statements_are_found_by_name_without_their_semicolon() -> None:
    queries = parse_queries(TEXT, "x.sql")
    assert list(queries) == ["first", "second"]
    assert queries["first"] == "-- Why it is so.\nSELECT 1\n WHERE true"
    assert queries["second"] == "SELECT '-- name: not_a_name'"


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(QueryError, match=r"x\.sql has no statement 'third'; it has: first, second"):
        parse_queries(TEXT, "x.sql")["third"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "x.sql:3: 'a' is there twice"),
        ("SELECT 1\n-- name: a\nSELECT 2", "x.sql:1: a statement without a name"),
        ("-- name: a\n\n-- only a comment\n-- name: b\nSELECT 2", "x.sql: 'a' has no statement"),
        ("-- name: A-b\nSELECT 1", "x.sql:1: 'A-b' is no name"),
        ("-- name:\nSELECT 1", "x.sql:1: '' is no name"),
    ],
)
def test_malformed_files_are_refused(text: str, error: str) -> None:
    with pytest.raises(QueryError, match=re.escape(error)):
        parse_queries(text, "x.sql")


def test_a_file_is_loaded_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_with_queries"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "things.sql").write_text("-- name: all_of_them\nSELECT 'ä'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_queries("package_with_queries", "things.sql")["all_of_them"] == "SELECT 'ä'"
    with pytest.raises(QueryError, match=r"package_with_queries/other\.sql does not exist"):
        load_queries("package_with_queries", "other.sql")
