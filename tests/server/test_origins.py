"""Thinking goes back to the provider that sent it, unchanged, or not at all (requirement K2)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from turnstream.config import ProviderSettings
from turnstream.engine import Engine
from turnstream.simulator.server import SimulatorServer

THINKS = "here/thinking:pace=0"


class Chat:
    """A chat in which each turn answers the first, and the requests that its provider got."""

    def __init__(self, engine: Engine, provider: SimulatorServer) -> None:
        self._engine = engine
        self._provider = provider
        self.first: Any = None
        self.last_body = ""

    async def begin(self) -> None:
        self.first = await self._ask(THINKS)

    async def sent_to(self, model: str) -> list[dict[str, Any]]:
        """Return the blocks of the assistant's message in the next call's body."""
        turn = await self._ask(model, prev_turn_id=self.first.turn.id, chat_id=self.first.turn.chat_id)
        assert turn.turn.status == "complete", turn.turn.error_message
        (request,) = self._provider.log.newest(1)
        body = json.loads(bytes(request.body))
        self.last_body = json.dumps(body, ensure_ascii=False)
        messages = body["messages"]
        content = next(message["content"] for message in messages if message["role"] == "assistant")
        return content if isinstance(content, list) else [{"type": "text", "text": content}]

    async def _ask(self, model: str, **options: Any) -> Any:
        live = await self._engine.send("Well?", model=model, **options)
        return await live.wait()


@pytest.fixture
async def chat(tmp_path: Path):
    async with SimulatorServer() as provider:
        wires = {"here": "anthropic", "there": "anthropic", "chat": "openai-chat", "local": "ollama"}
        providers = {
            name: ProviderSettings(wire=wire, base_url=provider.url + ("/v1" if name == "chat" else ""))
            for name, wire in wires.items()
        }
        async with Engine(f"sqlite:///{tmp_path}/turns.sqlite", providers=providers) as engine:
            made = Chat(engine, provider)
            await made.begin()
            yield made


def edit(tmp_path: Path, change: str) -> None:
    """Change the stored thinking without the engine."""
    with sqlite3.connect(tmp_path / "turns.sqlite") as database:
        changed = database.execute(f"UPDATE turnstream_blocks SET {change} WHERE block_type = 'thinking'")
        assert changed.rowcount == 1
    database.close()


@pytest.mark.requirement("K2")
async def test_it_goes_back_whole_to_whoever_said_it(chat: Chat) -> None:
    thinking = chat.first.blocks[0].block
    origin = (thinking.content or {})["origin"]
    assert (origin["wire"], origin["provider"], origin["model"]) == ("anthropic", "here", "thinking:pace=0")
    sent = (await chat.sent_to("here/echo:pace=0"))[0]
    assert sent == {
        "type": "thinking",
        "thinking": thinking.text_content,
        "signature": (thinking.content or {})["signature"],
    }


@pytest.mark.requirement("K2")
@pytest.mark.parametrize("model", ["there/echo:pace=0", "chat/echo:pace=0", "local/echo:pace=0"])
async def test_another_provider_is_not_told(chat: Chat, model: str) -> None:
    assert {block["type"] for block in await chat.sent_to(model)} == {"text"}
    assert chat.first.blocks[0].block.text_content not in chat.last_body


@pytest.mark.requirement("K2")
@pytest.mark.parametrize(
    "change",
    [
        "text_content = text_content || '.'",
        "content = json_set(content, '$.signature', 'forged')",
        "content = json_set(content, '$.origin.digest', 'forged')",
    ],
)
async def test_what_was_changed_in_storage_is_left_out(chat: Chat, tmp_path: Path, change: str) -> None:
    edit(tmp_path, change)
    assert {block["type"] for block in await chat.sent_to("here/echo:pace=0")} == {"text"}
