"""kill -9 of a server that redacts, and of one whose provider withdraws: nothing of it is found again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.faults import server_process
from tests.faults.processes import RunningProcess
from tests.faults.server_process import ServerPlan
from tests.server.live import Client, Watcher
from turnstream.config import EngineSettings
from turnstream.core.stream_events import TextDelta
from turnstream.engine import Engine
from turnstream.safety.redaction import Redaction
from turnstream.safety.rules import RedactionRule
from turnstream.simulator.script import story
from turnstream.wires.shared.endings import WITHDRAWN

STORY = "".join(event.text for event in story(400, 3) if isinstance(event, TextDelta))
WORDS = sorted({word.strip(".").lower() for word in STORY.split() if len(word) > 6})
"""Words of the story that no other text has."""
SECRET = max(WORDS, key=STORY.lower().count)
RULES = Redaction(shown=[RedactionRule("hidden", f"(?i){SECRET}")])


def run_redacting_server(plan: ServerPlan, ready: Connection) -> None:
    """Serve as planned, in a process of its own, with a rule that hides a word."""
    server_process.Engine = partial(Engine, redaction=RULES)  # type: ignore[assignment,misc]
    server_process.run_server(plan, ready)


def plan_in(folder: Path) -> ServerPlan:
    engine = EngineSettings(journal_interval=0.02)
    return ServerPlan(folder / "chats.sqlite", folder / "server.txt", engine=engine, log_level="info")


def client_of(process: RunningProcess) -> Client:
    return Client(int(process.url.rpartition(":")[2]))


def files_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("chats.sqlite*")).lower()


@pytest.mark.requirement("K1", "D5")
async def test_a_hidden_word_is_in_no_file_and_in_no_catch_up(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    async with RunningProcess(run_redacting_server, plan) as process:
        client = client_of(process)
        turn = await client.start("tell", model="sim/story:events=3000,seed=3,pace=0.005")
        live = Watcher(client, turn)
        while "[hidden]" not in (live.fold.blocks[0].text_content or "" if live.fold.blocks else ""):
            await live.watch(events=20)
        process.kill_now()
        assert await process.ended() == -9
    assert SECRET.encode() not in files_of(tmp_path)
    async with RunningProcess(run_redacting_server, plan) as process:
        again = Watcher(client_of(process), turn)
        await again.watch_to_the_end()
        (block,) = again.blocks
        assert again.terminal_events() == ["turn_error"]
        assert "[hidden]" in block["text_content"]
        assert SECRET not in block["text_content"].lower()
        assert block in await again.client.stored(turn)
    assert SECRET.encode() not in files_of(tmp_path)


@pytest.mark.requirement("K1", "D5")
async def test_withdrawn_text_does_not_come_back(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    async with RunningProcess(server_process.run_server, plan) as process:
        client = client_of(process)
        turn = await client.start(
            "tell", model="sim/story:events=3000,seed=3,pace=0.005,fault=redact,after=100"
        )
        live = Watcher(client, turn)
        while "block_reset" not in live.names:
            await live.watch(events=1)
        process.kill_now()
        assert await process.ended() == -9
    async with RunningProcess(server_process.run_server, plan) as process:
        again = Watcher(client_of(process), turn)
        await again.watch_to_the_end()
        texts = [block["text_content"] for block in again.blocks]
        assert texts in ([], [WITHDRAWN])
        assert [row["text_content"] for row in await again.client.stored(turn)] == texts
    with closing(sqlite3.connect(plan.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = files_of(tmp_path)
    assert not any(word.encode() in data for word in WORDS)
