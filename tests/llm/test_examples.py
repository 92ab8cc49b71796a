"""The library's examples, unchanged, against the simulator; and the README's statements about it."""

from __future__ import annotations

import asyncio
import re
import runpy
import sys
from pathlib import Path

import pytest

from examples import library_events, library_output, library_stream, library_sync

pytestmark = pytest.mark.requirement("F1")
ROOT = Path(__file__).resolve().parents[2]


async def test_streaming_with_a_tool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNSTREAM_RETRY__ATTEMPTS", "1")
    assert await library_stream.main("sim/tools:pace=0", "What is the weather in Vienna?") == 0
    shown = capsys.readouterr().out
    assert "The tools say: example 1: sunny for 1 days" in shown
    assert "[end_turn, 2 calls, Usage(" in shown
    assert await library_stream.main("sim/demo:fault=cut,after=9,pace=0", "x") == 75
    complaints = capsys.readouterr().err
    assert "stream_incomplete" in complaints
    assert "until then: Hello!" in complaints


async def test_an_answer_of_a_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert await library_output.main("sim/echo:pace=0", library_output._EXAMPLE) == 0
    assert "Vienna                  2,014,614" in capsys.readouterr().out
    assert await library_output.main("sim/echo:pace=0", "Three cities") == 1


def test_without_asyncio(capsys: pytest.CaptureFixture[str]) -> None:
    assert library_sync.main("sim/echo:pace=0", ["One?", "Two?"]) == 0
    assert capsys.readouterr().out == "\n> One?\nOne?\n> Two?\nTwo?\n- One?\n- Two?\n"


@pytest.mark.requirement("F3", "F8")
async def test_events_and_callbacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert await library_events.main("sim/agent:pace=0", "Why?") == 0
    shown = capsys.readouterr().out
    assert "[thinks]" not in shown
    assert "[calls look]" in shown
    assert "[looking for example 2]" in shown
    assert "example 2 was found" in shown
    assert "characters/s]" in shown


def _readme() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## As a library")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_programs_of_the_readme_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = _readme()
    assert len(programs) >= 3
    for number, program in enumerate(programs):
        file = tmp_path / f"program_{number}.py"
        simulated = re.sub(r'"(anthropic|openai)/[^"]*"', '"sim/tools:pace=0"', program)
        file.write_text(simulated, encoding="utf-8")
        runpy.run_path(str(file), run_name="__main__")
    assert "The tools say" in capsys.readouterr().out
    assert asyncio._get_running_loop() is None
    assert sys.version_info >= (3, 11)
