"""The requirement lines and the tests that name them, read from the files alone: nothing is imported or run."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
MANIFEST = Path(__file__).with_name("manifest.toml")
STATUSES = ("done", "partial", "planned")
LINE_ID = re.compile(r"[A-P][1-9][0-9]?")


@dataclass(frozen=True)
class Line:
    """One requirement; `tests` are the places, `file:line`, of the markers that name it."""

    id: str
    text: str
    status: str
    tests: tuple[str, ...] = ()


def read_manifest(file: Path = MANIFEST) -> dict[str, Line]:
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return {key: Line(key, entry.pop("text"), entry.pop("status"), **entry) for key, entry in table.items()}


def markers_in(source: str) -> list[tuple[int, list[object]]]:
    """Line number and arguments of each `pytest.mark.requirement(...)` in Python source, on a function, a class, a
    module's `pytestmark` or a parameter. An argument that is no literal is given as its syntax node."""
    found: list[tuple[int, list[object]]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(ast.Attribute(ast.Attribute(attr="mark"), attr="requirement"), args=arguments):
                values: list[object] = [
                    arg.value if isinstance(arg, ast.Constant) else arg for arg in arguments
                ]
                found.append((node.lineno, values))
            case _:
                pass
    return sorted(found, key=lambda marker: marker[0])


def collect_markers(folder: Path = TESTS) -> dict[object, list[str]]:
    """What the test files under `folder` name, and where."""
    places: defaultdict[object, list[str]] = defaultdict(list)
    for file in sorted(folder.rglob("test_*.py")):
        for number, ids in markers_in(file.read_text(encoding="utf-8")):
            for line_id in ids:
                places[line_id].append(f"{file.relative_to(folder)}:{number}")
    return dict(places)


def lines_with_tests() -> list[Line]:
    markers = collect_markers()
    return [
        Line(line.id, line.text, line.status, tuple(markers.get(line.id, ())))
        for line in read_manifest().values()
    ]
