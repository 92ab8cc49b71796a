"""The page of the fast paths names code and tests that exist, and every fast path saves enough."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

import pytest

from tests.docs.pages import DOCS, PROJECT

PAGE = DOCS / "explanation" / "fast-paths.md"
LEAST_GAIN = 5
_NAME = re.compile(r"`([^`]+)`")


class FastPath(NamedTuple):
    """A row of the page's tables."""

    place: str
    short: str
    plain: str
    saves: str
    test: str


def rows() -> list[FastPath]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [FastPath(*(cell.strip() for cell in line.strip("|").split(" | "))) for line in lines]


def names_in(file: str) -> set[str]:
    """Return the names of functions, methods, classes and constants that a file defines."""
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    defined = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    return defined


def test_there_are_fast_paths() -> None:
    assert len(rows()) >= 10


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.place}: {row.short}"[:80])
def test_a_fast_path_is_where_the_page_says_and_is_held_by_a_test(row: FastPath) -> None:
    (place,), (short, *_), (test,) = (_NAME.findall(cell) for cell in (row.place, row.short, row.test))
    assert set(short.split(".")) <= names_in(place)
    file, *parts = test.split("::")
    assert set(parts) <= names_in(file)
    files = [name for name in _NAME.findall(row.plain) if name.endswith(".py")]
    plain = [name for name in _NAME.findall(row.plain) if not name.endswith(".py")]
    assert all((PROJECT / file).is_file() for file in files)
    assert set(plain) <= names_in(files[0] if files else place)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.place}: {row.short}"[:80])
def test_a_fast_path_gains_enough(row: FastPath) -> None:
    found = re.match(r"(\d+) % \(", row.saves)
    assert found is not None
    assert int(found[1]) >= LEAST_GAIN
