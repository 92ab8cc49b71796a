"""`turnstream decode`, on recordings by the simulator's encoders."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.cli.programs import run
from turnstream.core.blocks import Block, Message
from turnstream.simulator.actions import Send
from turnstream.simulator.playback import play
from turnstream.simulator.texts import THOUGHT, UNUSUAL
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest


def recorded(wire: str, model: str = "thinking:pace=0") -> bytes:
    request = ModelRequest(model, (Message("user", (Block(0, "text", "Hello"),)),))
    return b"".join(action.data for action in play(request, WIRES[wire]) if isinstance(action, Send))


def event_lines(body: bytes) -> bytes:
    """Return the JSON of each event, one line each."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")]
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("wire", sorted(WIRES))
async def test_a_recording_becomes_one_json_object(wire: str, tmp_path: Path):
    (tmp_path / "answer.sse").write_bytes(recorded(wire))
    ended = await run("decode", "--wire", wire, "answer.sse", cwd=tmp_path)
    assert (ended.code, ended.errors) == (0, "")
    decoded = json.loads(ended.output)
    assert decoded["wire"] == wire
    assert [block["text_content"] for block in decoded["blocks"]] == [THOUGHT, UNUSUAL]
    assert decoded["stop_reason"] == "end_turn"
    assert decoded["complete"] is True
    assert decoded["error"] is None
    assert ended.output.startswith('{\n  "wire"')


@pytest.mark.parametrize("name", ["answer.sse.gz", "answer.jsonl", "answer.jsonl.gz", "-", "-.gz", "-.jsonl"])
async def test_every_form_of_a_recording_is_read(name: str, tmp_path: Path):
    body = recorded("anthropic")
    plain = json.loads((await run("decode", "--wire", "anthropic", "-", cwd=tmp_path, given=body)).output)
    data = event_lines(body) if ".jsonl" in name else body
    data = gzip.compress(data) if name.endswith(".gz") else data
    if not name.startswith("-"):
        (tmp_path / name).write_bytes(data)
    given = data if name.startswith("-") else None
    ended = await run(
        "decode", "--compact", "--wire", "anthropic", "-" if given else name, cwd=tmp_path, given=given
    )
    assert ended.code == 0
    assert len(ended.output.splitlines()) == 1 or "\u2028" in ended.output
    assert json.loads(ended.output) == plain


@pytest.mark.requirement("P5")
async def test_a_recording_that_breaks_off_is_decoded_as_far_as_it_goes(tmp_path: Path):
    (tmp_path / "answer.sse").write_bytes(recorded("anthropic")[:6000])
    ended = await run("decode", "--wire", "anthropic", "answer.sse", cwd=tmp_path)
    decoded = json.loads(ended.output)
    assert ended.code == 0
    assert decoded["complete"] is False
    assert decoded["error"]["code"] == "stream_incomplete"
    assert THOUGHT.startswith(decoded["blocks"][0]["text_content"])


@pytest.mark.parametrize(("wire", "other"), [("anthropic", "openai-chat"), ("openai-chat", "anthropic")])
async def test_a_file_of_another_wire_is_refused(wire: str, other: str, tmp_path: Path):
    (tmp_path / "answer.sse").write_bytes(recorded(other))
    ended = await run("decode", "--wire", wire, "answer.sse", cwd=tmp_path)
    assert ended.code == 1
    assert (
        ended.errors == f"turnstream: answer.sse is not a recording of the wire {wire}: give another --wire\n"
    )
    assert json.loads(ended.output)["blocks"] == []


@pytest.mark.parametrize(
    ("content", "arguments", "message", "code"),
    [
        (None, ("--wire", "anthropic", "missing.sse"), "missing.sse cannot be read (No such file", 1),
        (
            b"\x1f\x8bnot gzip",
            ("--wire", "anthropic", "broken.gz"),
            "broken.gz is not a complete gzip file",
            1,
        ),
        (None, ("--wire", "telegraph", "x"), "no wire 'telegraph'; choose one of anthropic, openai-chat", 2),
    ],
)
async def test_failures_are_one_line(
    content: bytes | None, arguments: tuple[str, ...], message: str, code: int, tmp_path: Path
):
    if content is not None:
        (tmp_path / arguments[-1]).write_bytes(content)
    ended = await run("decode", *arguments, cwd=tmp_path)
    assert ended.code == code
    assert message in ended.errors
    assert "Traceback" not in ended.errors
