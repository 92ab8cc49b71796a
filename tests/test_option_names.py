"""Texts for host applications and users of the library name no option of a command."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "turnstream"
OF_COMMANDS = ("cli/", "server/uvicorn_server.py", "server/reference.py", "simulator/replay.py")
"""Files whose texts only users of a command read."""
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def texts(file: Path) -> list[str]:
    """Return the string literals of a module that are not docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documents = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
    ]


def test_no_text_outside_of_the_commands_names_an_option() -> None:
    found = [
        f"{name}: {text}"
        for file in sorted(SOURCE.rglob("*.py"))
        if not (name := file.relative_to(SOURCE).as_posix()).startswith(OF_COMMANDS)
        for text in texts(file)
        if OPTION.search(text)
    ]
    assert found == []


def test_the_commands_are_found_by_the_same_search() -> None:
    assert any(OPTION.search(text) for text in texts(SOURCE / "cli" / "serve.py"))
