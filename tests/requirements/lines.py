"""The requirements and mended faults, and the tests that name them, read from the files alone: nothing is
run."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
STATUSES = ("done", "partial", "planned")


@dataclass(frozen=True)
class Manifest:
    """A file of lines, and the marker with which tests name them."""

    file: Path
    marker: str
    line_id: re.Pattern[str]


REQUIREMENTS = Manifest(
    Path(__file__).with_name("manifest.toml"), "requirement", re.compile(r"[A-Z][1-9][0-9]?")
)
FAULTS = Manifest(Path(__file__).with_name("faults.toml"), "fault", re.compile(r"[1-9][0-9]?"))
MANIFESTS = (REQUIREMENTS, FAULTS)


@dataclass(frozen=True)
class Line:
    """One line of a manifest; `tests` are the places, `file:line`, of the markers that name it."""

    id: str
    text: str
    status: str
    tests: tuple[str, ...] = ()


def read_manifest(manifest: Manifest) -> dict[str, Line]:
    table = tomllib.loads(manifest.file.read_text(encoding="utf-8"))
    return {key: Line(key, entry.pop("text"), entry.pop("status"), **entry) for key, entry in table.items()}


def markers_in(source: str, marker: str) -> list[tuple[int, list[object]]]:
    """Return the line number and the arguments of each `pytest.mark.<marker>(...)` in Python source.

    The marker may stand on a function, a class, a module's `pytestmark` or a parameter. A number is returned
    as its
    text; an argument that is not a literal is returned as its syntax node.
    """
    found: list[tuple[int, list[object]]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(ast.Attribute(ast.Attribute(attr="mark"), attr=name), args=arguments) if (
                name == marker
            ):
                values: list[object] = [
                    str(arg.value) if isinstance(arg, ast.Constant) else arg for arg in arguments
                ]
                found.append((node.lineno, values))
            case _:
                pass
    return sorted(found, key=lambda place: place[0])


def collect_markers(marker: str, folder: Path = TESTS) -> dict[object, list[str]]:
    """Return the ids that test files under `folder` name with `marker`, each with its places."""
    places: defaultdict[object, list[str]] = defaultdict(list)
    for file in sorted(folder.rglob("test_*.py")):
        for number, ids in markers_in(file.read_text(encoding="utf-8"), marker):
            for line_id in ids:
                places[line_id].append(f"{file.relative_to(folder)}:{number}")
    return dict(places)


def lines_with_tests(manifest: Manifest) -> list[Line]:
    markers = collect_markers(manifest.marker)
    return [
        Line(line.id, line.text, line.status, tuple(markers.get(line.id, ())))
        for line in read_manifest(manifest).values()
    ]
