"""The example program, unchanged, against a real server behind a network that cuts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from examples.resuming_client import ask
from tests.cli.cutting_proxy import CuttingProxy
from tests.server.live import serving
from turnstream.config import EngineSettings
from turnstream.engine import Engine

pytestmark = pytest.mark.requirement("F6", "P1")


async def test_the_answer_is_whole_however_often_the_network_cuts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = EngineSettings(default_model="sim/story:events=200,pace=0.005,seed=3")
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", settings=settings)
    draw = random.Random(4)
    limits = [4000, *(draw.randint(1, 3000) for _ in range(12))]
    async with (
        serving(engine.application()) as port,
        CuttingProxy(("127.0.0.1", port), limits) as proxy,
    ):
        assert await ask(proxy.url, "Tell me a story.") == 0
        chat = (await engine.commands.store.read(_chats()))[0]
        stored = (await engine.commands.store.read(_turns(chat.id)))[-1]
        assert stored.status == "complete"
        text = await _text(engine, stored.id)
        assert proxy.cuts > 3
    shown = capsys.readouterr()
    assert shown.out.rpartition("--- so far:\n")[2].rstrip("\n") == text.rstrip("\n")
    assert "[complete, Usage(" in shown.err


def _chats() -> object:
    from turnstream.store.queries import ListChats

    return ListChats(owner="local", limit=10, before=None)


def _turns(chat_id: str) -> object:
    from tests.store.reads import ListTurns

    return ListTurns(owner="local", chat_id=chat_id)


async def _text(engine: Engine, turn_id: str) -> str:
    state = await engine.commands.state("local", turn_id)
    return "".join(row.block.text_content or "" for row in state.blocks)
