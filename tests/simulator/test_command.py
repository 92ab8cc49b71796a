"""`turnstream simulate` with a recording and a log, as its users start it."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path

import pytest

from tests.cli.programs import Program, listening, run
from tests.simulator.asking import post
from turnstream.simulator.fault_names import FAULTS
from turnstream.simulator.playback import play
from turnstream.wires import WIRES


async def test_a_recording_is_replayed(tmp_path: Path, ask):
    wire = WIRES["anthropic"]
    body = b"".join(send.data for send in play(ask("thinking:pace=0"), wire))
    (tmp_path / "answer.sse.gz").write_bytes(gzip.compress(body))
    options = ["--replay", "answer.sse.gz", "--rate", "5000", "--chunk", "7", "--log", "log.jsonl"]
    async with Program("simulate", "--port", "0", *options, cwd=tmp_path) as program:
        url = await listening(program)
        assert (await post(url, wire, ask("claude"))).body == body
        program.signal(signal.SIGINT)
        ended = await program.ended()
    assert (ended.code, ended.errors) == (0, "")
    assert "wire anthropic" in ended.output
    logged = json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8"))
    assert logged["answered"]["bytes"] == len(body)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rate", "5"], "--replay"),
        (["--replay", "nowhere.sse"], "nowhere.sse cannot be read"),
        (["--replay", "here.sse"], "--wire"),
        (["--replay", "here.sse", "--wire", "telex"], "no wire 'telex'"),
        (["--replay", "here.sse", "--rate", "0"], "more than 0"),
        (["--replay", "here.sse", "--chunk", "0"], "1 byte or more"),
        (["--log", "."], "cannot be written"),
    ],
)
async def test_options_that_do_not_fit(tmp_path: Path, options, told):
    (tmp_path / "here.sse").write_text("this is not a recording")
    ended = await run("simulate", "--port", "0", *options, cwd=tmp_path)
    assert ended.code == 2
    assert told in ended.errors
    assert "Traceback" not in ended.errors


async def test_help_lists_the_faults(tmp_path: Path):
    ended = await run("simulate", "--help", cwd=tmp_path)
    assert all(f"fault={name}" in ended.output for name in FAULTS)
    assert "X-Simulate" in ended.output
