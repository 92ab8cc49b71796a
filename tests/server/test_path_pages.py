"""A chat's path: all of it, or in pages from its end, made in small portions off the event loop."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.server.live import Client, serving
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.server.views import PathTurnView
from turnstream.store.base import StoredBlock, Turn
from turnstream.store.operations import StartTurns
from turnstream.turns.chats import PATH_PORTION, PathTurn

TURNS = 100


async def chat_of(engine: Engine) -> tuple[str, list[str]]:
    """A chat of so many turns, one after the other."""
    chat = await engine.commands.chats.create("local")
    turn_ids: list[str] = []
    for _ in range(TURNS // 2):
        user = Turn(
            new_id(), chat.id, "local", turn_ids[-1] if turn_ids else None, "user", "complete", None, 0, 7
        )
        answer = Turn(new_id(), chat.id, "local", user.id, "assistant", "complete", None, 0, 7, last_seq=1)
        block = StoredBlock(new_id(), user.id, Block(0, "text", f"grüße {len(turn_ids)}"), 2, 2, 0)
        await engine._store.write(
            StartTurns(
                turn_id=answer.id, owner="local", user_turn=user, assistant_turn=answer, user_blocks=(block,)
            )
        )
        turn_ids += [user.id, answer.id]
    return chat.id, turn_ids


@pytest.mark.fault(40)
@pytest.mark.parametrize("limit", [1, 7, 99, 100, 200])
async def test_pages_from_the_end_are_the_path(tmp_path: Path, limit: int) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        client = Client(port)
        chat_id, turn_ids = await chat_of(engine)
        whole = (await client.call("GET", f"/chats/{chat_id}/path")).json
        assert [turn["id"] for turn in whole["turns"]] == turn_ids
        assert (whole["chat_id"], whole["previous"]) == (chat_id, None)
        read: list[object] = []
        query = f"?limit={limit}"
        while True:
            page = (await client.call("GET", f"/chats/{chat_id}/path{query}")).json
            assert len(page["turns"]) <= limit
            read = [*page["turns"], *read]
            if page["previous"] is None:
                break
            query = f"?limit={limit}&before={page['previous']}"
        assert read == whole["turns"]


@pytest.mark.fault(40)
async def test_what_is_not_of_the_branch_is_not_found_and_odd_limits_are_refused(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        client = Client(port)
        chat_id, _ = await chat_of(engine)
        for query, status in [
            (f"before={new_id()}", 404),
            (f"turn_id={new_id()}", 404),
            ("before=x", 400),
            ("limit=0", 400),
            ("limit=201", 400),
        ]:
            assert (await client.call("GET", f"/chats/{chat_id}/path?{query}")).status == status, query
        empty = (await client.call("POST", "/chats")).json["id"]
        assert (await client.call("GET", f"/chats/{empty}/path?limit=5")).json["turns"] == []


@pytest.mark.fault(40)
async def test_the_event_loop_makes_no_turn_of_a_path_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portions: list[int] = []
    json_of = PathTurnView.json_of

    def json_counted(path: list[PathTurn]) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        portions.append(len(path))
        return json_of(path)

    monkeypatch.setattr(PathTurnView, "json_of", json_counted)
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        chat_id, _ = await chat_of(engine)
        await Client(port).call("GET", f"/chats/{chat_id}/path")
    assert sum(portions) == TURNS
    assert max(portions) <= PATH_PORTION
