"""A chat's path, its turns and alternatives: whole, or in pages from the end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.server.live import Client, serving
from tests.turns.long_chats import InsertTurns, long_chat
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine

TURNS = 100


LISTS = ["/chats/{chat}/path", "/chats/{chat}/turns", "/turns/{alternative}/siblings"]


async def chat_of(engine: Engine) -> tuple[str, list[str], list[str]]:
    """Create a chat of `count` turns in a row, and as many alternatives to the last one."""
    chat = await engine.commands.chats.create("local")
    insert = long_chat(chat.id, [[6], []] * (TURNS // 2))
    await engine._store.write(insert)
    last = insert.turns[-1]
    others = [msgspec.structs.replace(last, id=new_id(), created_at=TURNS + n) for n in range(TURNS)]
    await engine._store.write(InsertTurns(turns=others, blocks=()))
    return chat.id, [turn.id for turn in insert.turns], [turn.id for turn in others]


@pytest.mark.fault(40)
@pytest.mark.parametrize("limit", [1, 7, 99, 100, 200])
@pytest.mark.parametrize("path", LISTS)
async def test_pages_from_the_end_are_the_list(tmp_path: Path, path: str, limit: int) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        client = Client(port)
        chat_id, turn_ids, others = await chat_of(engine)
        path = path.format(chat=chat_id, alternative=others[3])
        whole = (await client.call("GET", path)).json
        expected = {
            "path": [*turn_ids[:-1], others[-1]],
            "turns": [*turn_ids, *others],
            "siblings": [turn_ids[-1], *others],
        }
        assert [turn["id"] for turn in whole["turns"]] == expected[path.rpartition("/")[2]]
        assert whole["previous"] is None
        read: list[object] = []
        query = f"?limit={limit}"
        while True:
            page = (await client.call("GET", f"{path}{query}")).json
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
        chat_id, _, others = await chat_of(engine)
        for path in LISTS[1:]:
            for query, status in [(f"before={new_id()}", 404), ("before=x", 400), ("limit=201", 400)]:
                asked = f"{path.format(chat=chat_id, alternative=others[0])}?{query}"
                assert (await client.call("GET", asked)).status == status, asked
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
