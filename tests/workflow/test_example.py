"""`examples/agent.py` over a folder of notes, with a simulated model."""

from __future__ import annotations

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
    assert "[running: Found 1 pieces of context]" in printed.err
    assert "[complete, Usage(" in printed.err


def test_the_agent_calls_its_tools(tmp_path: Path) -> None:
    (tmp_path / "launch.md").write_text("On Friday.", encoding="utf-8")
    notes = agent.Notes(tmp_path)
    assert notes.search_notes("the launch") == ["launch"]
    assert notes.read_note("launch") == "On Friday."
    assert notes.read_note("../secret") == "there is no such note"


def test_the_example_is_short() -> None:
    assert len((PROJECT / "examples" / "agent.py").read_text(encoding="utf-8").splitlines()) < 60
