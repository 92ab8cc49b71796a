"""The public API is typed: two checkers agree on users' code and on its mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.requirement("F1")

ROOT = Path(__file__).resolve().parent.parent
GOOD = ROOT / "tests/typing/library.py"
BAD = ROOT / "tests/typing/mistakes.py"
EXAMPLES = sorted((ROOT / "examples").glob("library_*.py"))


_MYPY = """
[mypy]
strict = true
follow_imports = silent
error_summary = false
[mypy-turnstream.engine,turnstream.server.*,fastapi.*,starlette.*,sqlalchemy.*,alembic.*,aiohttp.*,genai_prices.*]
follow_imports = skip
"""
"""Modules that the library's types do not need. Without them, mypy takes a fraction of its time."""


FILES = [GOOD, BAD, *EXAMPLES]


@pytest.fixture(scope="module")
def checkers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both at once: each takes some seconds."""
    folder = tmp_path_factory.mktemp("mypy")
    (folder / "mypy.ini").write_text(_MYPY)
    options = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(folder)]
    started = {"mypy": _start("mypy", *options), "pyright": _start("pyright", "--outputjson")}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def _start(checker: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", checker, *options, *map(str, FILES)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    )


def _wrong_lines() -> set[int]:
    return {number for number, line in enumerate(BAD.read_text().splitlines(), 1) if "# WRONG" in line}


def test_mypy_strict(checkers: dict[str, subprocess.Popen[str]]) -> None:
    output, _ = checkers["mypy"].communicate(timeout=100)
    found = re.findall(r"^(.*?):(\d+): error", output, re.MULTILINE)
    assert [entry for entry in found if not entry[0].endswith(BAD.name)] == [], output
    assert {int(line) for _, line in found} == _wrong_lines(), output


def test_pyright_strict(checkers: dict[str, subprocess.Popen[str]]) -> None:
    """Each of the files says `# pyright: strict`."""
    assert all("# pyright: strict" in file.read_text() for file in FILES)
    output, _ = checkers["pyright"].communicate(timeout=100)
    found = [entry for entry in json.loads(output)["generalDiagnostics"] if entry["severity"] == "error"]
    elsewhere = [entry for entry in found if not entry["file"].endswith(BAD.name)]
    assert elsewhere == []
    assert {entry["range"]["start"]["line"] + 1 for entry in found} == _wrong_lines(), found
