"""The demo runs to its end, and its verdict is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.upstream import made_recording
from tests.cli.programs import Ended, Program
from tests.cli.test_decode import event_lines, recorded

DEMO = "examples.demo"
CHECKOUT = Path(__file__).parents[2]
DEMO_SECONDS = 90.0


async def demo(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> Ended:
    variables = {"PYTHONPATH": str(CHECKOUT), **(environ or {})}
    async with Program(*arguments, cwd=cwd, environ=variables, module=DEMO) as program:
        return await program.ended(DEMO_SECONDS)


@pytest.mark.requirement("C1", "C2", "C3", "D2")
async def test_a_cut_watcher_a_late_one_and_the_store_agree(tmp_path: Path):
    ended = await demo(cwd=tmp_path)
    assert ended.code == 0, ended.output + ended.errors
    assert ended.errors == ""
    assert "cut in mid-frame" in ended.output
    assert "joins late" in ended.output
    assert ended.output.count("✓  ✓  ✓") == made_recording().blocks == 3
    assert "✗" not in ended.output
    assert ended.output.splitlines()[-1].startswith("all agree")


async def test_any_recorded_answer_can_be_used(tmp_path: Path):
    body = recorded("openai-chat")
    (tmp_path / "answer.jsonl").write_bytes(event_lines(body)[:-2000])
    ended = await demo("answer.jsonl", cwd=tmp_path)
    assert ended.code == 0, ended.output + ended.errors
    assert "answer.jsonl: openai-chat" in ended.output
    assert "turn_error" in ended.output
    assert ended.output.splitlines()[-1].startswith("all agree")


async def test_what_is_no_recording_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing that a provider would say\n\n")
    for ended in (
        await demo("--file", "notes.txt", cwd=tmp_path),
        await demo(cwd=tmp_path, environ={"FILE": "notes.txt"}),
    ):
        assert ended.code == 1
        assert ended.errors.startswith("demo: notes.txt is not a recording of the wires")
        assert "agree" not in ended.output
