"""One turn in several protocols at once: each client has the same text, which is the stored text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.run_fold import RunFold
from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import SECONDS, Client, Watcher, read_chunks, read_head, serving
from turnstream.engine import Engine

QUESTION = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
ASKED = {"id": "a chat", "messages": [QUESTION], "model": "sim/story:events=100000,pace=0.002"}


class Reading:
    """Reads a stream into a fold of its protocol. `begun` is set with its first text."""

    def __init__(self, fold: UiMessageFold | RunFold) -> None:
        self.fold = fold
        self.events = 0
        self.begun = asyncio.Event()
        self.fortieth = asyncio.Event()

    async def read(self, client: Client, method: str, path: str, body: Any = None) -> None:
        async with asyncio.timeout(SECONDS):
            reader, writer = await client.open(method, path, body)
            try:
                status, headers = await read_head(reader)
                assert status == 200
                rest = b""
                async for chunk in read_chunks(reader, headers):
                    whole, separator, rest = (rest + chunk).rpartition(b"\n\n")
                    self.fold.receive(whole + separator)
                    self.events += whole.count(b'"delta":')
                    if self.events:
                        self.begun.set()
                    if self.events >= 40:
                        self.fortieth.set()
            finally:
                writer.close()


@pytest.mark.requirement("P2", "P5", "N3", "N4")
async def test_a_turn_of_one_protocol_is_watched_in_two_others_stopped_and_resumed(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}")
    async with serving(engine.application()) as port, asyncio.TaskGroup() as tasks:
        client = Client(port)
        page, agent, second_tab = UiMessageFold(), RunFold(), UiMessageFold(7)
        started, joined, reloaded = Reading(page), Reading(agent), Reading(second_tab)
        tasks.create_task(started.read(client, "POST", "/ai-sdk/chat", ASKED))
        await started.begun.wait()
        turn_id = page.message_id
        assert turn_id is not None
        native = Watcher(client, turn_id)
        run = {
            "threadId": "a chat",
            "runId": turn_id,
            "messages": [],
            "tools": [],
            "context": [],
            "state": {},
        }
        tasks.create_task(joined.read(client, "POST", "/ag-ui", {**run, "protocolVersion": "1.0"}))
        watching = tasks.create_task(native.watch(events=20))
        await joined.begun.wait()
        tasks.create_task(reloaded.read(client, "GET", "/ai-sdk/v7/chat/a%20chat/stream"))
        await watching
        await started.fortieth.wait()
        stopped = await client.call("POST", "/ai-sdk/chat/a%20chat/stop")
        assert stopped.json == {"stopped": [turn_id]}
        await native.watch_to_the_end()
        stored = [row["text_content"] for row in await client.stored(turn_id) if row["block_type"] == "text"]
    assert (page.ending, second_tab.ending, agent.outcome) == ("abort", "abort", "cancelled")
    assert native.terminal_events() == ["turn_cancelled"]
    assert page.texts("text") == second_tab.texts("text") == agent.texts() == stored
    assert [block["text_content"] for block in native.blocks] == stored
    assert len(stored[0]) > 40
