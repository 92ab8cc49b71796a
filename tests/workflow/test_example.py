"""`examples/agent.py` over a folder of notes, with a simulated model."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from examples import agent
from tests.docs.pages import PROJECT


@pytest.mark.requirement("H1", "F1")
async def test_the_agent_answers_from_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "launch.md").write_text("We decided to launch on Friday.", encoding="utf-8")
    (notes / "bread.md").write_text("Flour, water and salt.", encoding="utf-8")
    assert await agent.main(notes, "When do we launch?", "sim/echo:pace=0") == 0
    printed = capsys.readouterr()
    assert "We decided to launch on Friday." in printed.out
    assert "Flour" not in printed.out
    assert "[Found 1 pieces of context]" in printed.err
    assert re.search(r"\[complete, \d+ \+ \d+ tokens, \$0\.000000\]", printed.err)
    assert await agent.main(notes, "When do we launch?", "sim/echo:fault=error-before,status=401") == 1
    assert "key for this model provider is missing or was refused" in capsys.readouterr().err


@pytest.mark.requirement("H3", "H4")
async def test_a_question_of_the_agent_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The simulated model repeats the request, so the words in it decide what the request counts as."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: f"{prompt}qa_analysis")
    assert await agent.main(tmp_path, "clarification_needed", "sim/echo:pace=0") == 0
    printed = capsys.readouterr()
    question, answer = "clarification_needed", "clarification_needed\n> qa_analysis"
    assert printed.out == question + answer
    assert printed.err.count("[complete, ") == 2


def test_the_agent_calls_its_tools(tmp_path: Path) -> None:
    (tmp_path / "launch.md").write_text("On Friday.", encoding="utf-8")
    notes = agent.Notes(tmp_path)
    assert notes.search_notes("the launch") == ["launch"]
    assert notes.read_note("launch") == "On Friday."
    assert notes.read_note("../secret") == "there is no such note"


def test_the_example_is_short() -> None:
    assert len((PROJECT / "examples" / "agent.py").read_text(encoding="utf-8").splitlines()) < 60
