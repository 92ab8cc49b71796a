"""The reference is built without a warning, and every public name has a docstring."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "scripts" / "reference.py"
PUBLIC = next(
    ast.literal_eval(node.value)
    for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PUBLIC"
)


def test_it_is_made(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, tmp_path],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    for name in PUBLIC:
        page = tmp_path / Path(*name.split(".")).with_suffix(".html")
        assert page.is_file(), f"{name} has no page"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for exported in getattr(module, "__all__", ()):
        value = getattr(module, exported)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{exported} has no docstring"
            assert not value.__doc__.startswith(f"{exported}("), (
                f"{name}.{exported} has only a made-up docstring"
            )
        if inspect.isclass(value):
            silent = [own for own in _public_functions(value) if not inspect.getdoc(getattr(value, own))]
            assert not silent, f"{name}.{exported}: no docstring for {', '.join(silent)}"


def _public_functions(kind: type) -> list[str]:
    """Return the methods and properties that a class defines. Those of a protocol are described by their
    types."""
    if getattr(kind, "_is_protocol", False) or not kind.__module__.startswith("turnstream"):
        return []
    found = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return [
        name
        for name, value in found.items()
        if isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
    ]
