"""Count prose that Plain words would write otherwise: in the Markdown pages, in docstrings, comments, errors,
logs and help of `src/`, and in docstrings and comments of tests, benchmarks and examples.

    python scripts/prose.py [--list]

The rules are in CONTRIBUTING.md, "Words". `--list` prints each place. The exit code is 1 if a count is over
its limit.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 110
"""Columns of a line of prose in the sources."""
OPENING = re.compile(r"(What|Where|Whether|Who|Whom|How)\b")
"""Words that begin no docstring."""
OPENING_OF_STRING = re.compile(r"[\"']\s*" + OPENING.pattern)
ODD = re.compile(
    r"\b(whoever|nobody|somebody|whom|goes? on with|gone on with|lets? go of|stands? for|is told|are told|is said)\b",
    re.IGNORECASE,
)
"""Words that stand in the place of a role or of the field's own word."""
LIMITS = {"opening words": 0, "odd words": 0, "long lines": 0}


class Place(NamedTuple):
    """One finding: its kind, the file, the line, and the text."""

    kind: str
    file: Path
    line: int
    text: str


def places() -> Iterator[Place]:
    """Return every finding in the sources and the pages."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        yield from _places_in_source(file)
    for folder in ("tests", "benchmarks", "examples", "scripts"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield from _places_in_program(file)
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for file in sorted(pages):
        is_code = False
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            yield from _odd_words(file, number, text)
            is_code ^= text.lstrip().startswith("```")
            if len(text) > WIDTH and not is_code and not text.startswith("|"):
                yield Place("long lines", file, number, text)


def _places_in_source(file: Path) -> Iterator[Place]:
    """Return the findings in a module of the package, in all of its strings."""
    source = file.read_text(encoding="utf-8")
    yield from _places_in(file, source, ast.Constant)
    for number, line in enumerate(source.splitlines(), 1):
        if len(line) > WIDTH:
            yield Place("long lines", file, number, line.strip())


def _places_in_program(file: Path) -> Iterator[Place]:
    """Return the findings in a test or another program. Its strings may be data, so only its prose counts."""
    yield from _places_in(file, file.read_text(encoding="utf-8"), ast.Expr)


def _places_in(file: Path, source: str, kind: type[ast.Constant | ast.Expr]) -> Iterator[Place]:
    """Return the findings in docstrings, in comments, and in the strings that are nodes of `kind`.

    Most files have none of the words at all, so they are not parsed.
    """
    if not (ODD.search(source) or OPENING_OF_STRING.search(source)):
        return
    tree = ast.parse(source)
    yield from _openings(file, tree)
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Expr) else node
        if isinstance(node, kind) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield from _odd_words(file, value.lineno, value.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from _odd_words(file, token.start[0], token.string)


def _odd_words(file: Path, line: int, text: str) -> Iterator[Place]:
    return (Place("odd words", file, line, found[0]) for found in ODD.finditer(text))


def _openings(file: Path, tree: ast.AST) -> Iterator[Place]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str) and OPENING.match(text.lstrip()):
                yield Place("opening words", file, node.lineno, text.strip().splitlines()[0])


def main() -> int:
    found = list(places())
    if "--list" in sys.argv[1:]:
        for place in found:
            print(f"{place.file.relative_to(ROOT)}:{place.line}: {place.kind}: {place.text[:90]}")
    counts = {kind: sum(place.kind == kind for place in found) for kind in LIMITS}
    for kind, limit in LIMITS.items():
        print(f"{kind}: {counts[kind]} (at most {limit})")
    return any(counts[kind] > limit for kind, limit in LIMITS.items())


if __name__ == "__main__":
    sys.exit(main())
