"""Each wire and each dialect stands alone: it may use what all share, and never another one.

The import-linter contracts in pyproject.toml check the layers; they cannot say "whatever belongs to this
wire".
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import turnstream

PACKAGE = Path(turnstream.__file__).parent
FAMILIES = {
    "wires": ("anthropic", "bedrock", "gemini", "ollama", "openai_chat", "openai_responses"),
    "dialects": ("native", "ai_sdk"),
}
ASSEMBLY = {"__init__", "catalog"}
"""Modules that join a family, and know all its members."""


def owner_of(module: str, names: Iterable[str]) -> str | None:
    """The wire or dialect that a module belongs to, `openai_chat_chunks` to `openai_chat`; None for what all
    share."""
    owners = [name for name in names if module == name or module.startswith(f"{name}_")]
    return max(owners, key=len, default=None)


def imports_of(source: str, family: str) -> Iterator[str]:
    """The modules of `family` that Python source imports."""
    prefix = f"turnstream.{family}"
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == prefix:
            names = [f"{prefix}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[2] for name in names if name.startswith(f"{prefix}."))


@pytest.mark.parametrize("family", FAMILIES)
def test_members_of_a_family_do_not_import_each_other(family: str):
    names = FAMILIES[family]
    crossings: list[str] = []
    for file in sorted((PACKAGE / family).rglob("*.py")):
        module = file.relative_to(PACKAGE / family).parts[0].removesuffix(".py")
        if module in ASSEMBLY:
            continue
        owner = owner_of(module, names)
        imported = {owner_of(name, names) for name in imports_of(file.read_text(encoding="utf-8"), family)}
        crossings += [f"{family}/{module} imports from {other}" for other in imported - {owner, None}]
    assert not crossings, crossings


def test_imports_are_found_however_they_are_written():
    source = """
import turnstream.wires.anthropic.blocks
from turnstream.wires import base
from turnstream.wires.openai_chat import wire as openai_chat
from turnstream.wires.gemini.wire import decode
from turnstream.core import blocks
def late():
    from turnstream.wires.ollama.wire import x
"""
    assert sorted(imports_of(source, "wires")) == [
        "anthropic",
        "base",
        "gemini",
        "ollama",
        "openai_chat",
    ]


@pytest.mark.parametrize(
    ("module", "owner"), [("openai_chat_chunks", "openai_chat"), ("anthropic", "anthropic"), ("base", None)]
)
def test_a_module_belongs_to_the_name_it_begins_with(module: str, owner: str | None):
    assert owner_of(module, FAMILIES["wires"]) == owner
