"""The pages are true: their programs run and print the shown output, settings load, links have targets,
commands exist."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import pages
from turnstream.cli.main import main as turnstream
from turnstream.config import load_settings

OWN = [
    page
    for folder in (pages.TUTORIAL, pages.HOW_TO)
    for page in sorted(folder.glob("*.md"))
    if page.name not in pages.SNIPPETS
]
PROGRAMS = [program for page in OWN for program in pages.programs(page)]
RUN = [program for program in PROGRAMS if not pages.is_application(program)]
SETTINGS = [fence for page in pages.pages() for fence in pages.fences(page, "toml")]
COMMANDS = [fence for page in [*OWN, pages.README] for fence in pages.fences(page, "sh")]
INSTALLED = frozenset({"pip", "uvicorn", "turnstream", "export", "curl", "make", "python"})
"""Files that a reader has after following the pages."""


def name_of(case: object) -> str:
    return str(case.source if isinstance(case, pages.Program) else case)


@pytest.mark.requirement("F1")
@pytest.mark.parametrize("program", RUN, ids=name_of)
def test_a_program_prints_what_is_shown(
    program: pages.Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "program.py"
    file.write_text(program.source.text.replace('"sim/demo"', '"sim/demo:pace=0"'), encoding="utf-8")
    runpy.run_path(str(file), run_name="__main__")
    printed = capsys.readouterr().out
    assert program.output is not None, f"the page does not say what it prints:\n{printed}"
    assert pages.fits(program.output, printed), f"it prints:\n{printed}"


def test_there_are_programs() -> None:
    assert len(RUN) >= 8
    assert {program.source.page.name for program in PROGRAMS} == {page.name for page in OWN}


@pytest.mark.requirement("F1")
def test_the_types_of_the_programs_fit(tmp_path: Path) -> None:
    for program in [*PROGRAMS, *pages.programs(pages.README)]:
        name = f"{program.source.page.stem}_{program.source.line}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(program.source.text, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(tmp_path)]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.requirement("F4")
@pytest.mark.parametrize("fence", SETTINGS, ids=name_of)
def test_settings_load(fence: pages.Fence, tmp_path: Path) -> None:
    file = tmp_path / "turnstream.toml"
    file.write_text(fence.text, encoding="utf-8")
    load_settings(file, environ={})


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(pages.PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in pages.anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("fence", COMMANDS, ids=name_of)
def test_commands_exist(fence: pages.Fence, capsys: pytest.CaptureFixture[str]) -> None:
    for line in fence.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        words[0] = words[0].removeprefix(".venv/bin/")
        assert words[0] in INSTALLED, line
        if words[0] == "turnstream":
            _check_options(words[1:], capsys)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (pages.PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)


def _check_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The command is known, and so are its options."""
    with pytest.raises(SystemExit) as ended:
        turnstream([words[0], "--help"])
    assert ended.value.code == 0
    known = capsys.readouterr().out
    for word in words[1:]:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}\b", known), f"{words[0]} has no {word}"


def test_what_a_page_shows() -> None:
    assert pages.fits("a\n…\nend …\n", "a\nb\nc\nend 3\n")
    assert pages.fits("…\nb\n", "b\n")
    assert not pages.fits("a\n", "a\nb\n")


def test_each_page_is_in_the_index() -> None:
    index = pages.DOCS / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in pages.links(index)}
    missing = [page for page in pages.DOCS.rglob("*.md") if page != index and page.resolve() not in listed]
    assert not missing


@pytest.mark.requirement("R1")
def test_the_readme_begins_as_the_tutorial() -> None:
    first, tutorial = (
        pages.fences(page, "python")[0].text for page in (pages.README, pages.TUTORIAL / "first-answers.md")
    )
    assert re.sub(r" +#.*", "", first) == tutorial
    assert len(first.splitlines()) <= 10
