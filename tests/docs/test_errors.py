"""Every error says what to do next: in its message, and in a row of docs/reference/errors.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PROJECT
from turnstream import errors
from turnstream.providers.failures import MASKED

SOURCE = PROJECT / "src" / "turnstream"
PAGE = DOCS / "reference" / "errors.md"
CALLERS_FAULTS = tuple(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(
        kind, (errors.ConfigurationError, errors.RequestError, errors.Unavailable, errors.NotStarted)
    )
)
INTERNAL = {"wires", "simulator"}
"""Folders whose errors are about requests to a provider."""
NEXT_STEP = re.compile(
    r"\b(add|answer|ask|choose|convert|correct|delete|encode|give|install|keep|leave|list|listen|load|make|must|mend"
    r"|name|needs?|providers are|put|record|rename|resume|send|set|shorten|start|take|try|upgrade|use|wait|wrap|write|has to|at most"
    r"|there (is|are)|turnstream \w+|is it the URL)\b"
)
"""Words of a message that say what the caller can do, or name the only valid values."""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Return every call in the package: its file and line, the called name, and the call."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", name, node


def text_of(node: ast.expr) -> str:
    """Return the constant words of a message, or "" if a function makes it."""
    if isinstance(node, ast.Call):
        return ""
    return " ".join(
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def codes_of_the_source() -> set[str]:
    classes = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    found = {kind.code for kind in classes if issubclass(kind, errors.TurnstreamError)} | set(MASKED)
    for _, name, call in calls():
        if name == "Notice":
            continue
        for keyword in call.keywords:
            if keyword.arg in ("code", "error_code") and isinstance(keyword.value, ast.Constant):
                found.add(keyword.value.value)
    return found


def rows_of_the_page() -> dict[str, str]:
    """Return the remedies of the page, by code."""
    rows: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for code in re.findall(r"`([a-z_]+)`", cells[0]) if line.startswith("| `") else ():
            rows[code] = cells[-1]
    return rows


@pytest.mark.requirement("R1")
def test_the_page_has_each_code_and_what_to_do_about_it() -> None:
    rows = rows_of_the_page()
    missing = codes_of_the_source() - set(rows)
    assert not missing, f"docs/reference/errors.md has no row for {sorted(missing)}"
    assert all(len(remedy) > 8 for remedy in rows.values())


def test_the_page_has_no_code_that_does_not_exist() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    assert [code for code in rows_of_the_page() if f'"{code}"' not in text] == ["llm_closed"]


@pytest.mark.requirement("R1")
def test_each_message_about_a_callers_fault_says_what_to_do() -> None:
    silent = [
        f"{place}: {text}"
        for place, name, call in calls()
        if name in CALLERS_FAULTS
        and call.args
        and Path(place).parts[0] not in INTERNAL
        and len(re.findall(r"[a-z]{3,}", text := text_of(call.args[0]))) > 2  # else it is a parser's message
        and not NEXT_STEP.search(text)
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.requirement("R1")
def test_each_failure_of_a_model_says_what_to_do() -> None:
    for code, (failure, remedy) in MASKED.items():
        assert len(failure) > 8, code
        assert re.match(r"(ask|begin|change|choose|set it|its operator must|try again)\b", remedy), code
