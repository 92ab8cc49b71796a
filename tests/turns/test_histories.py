"""The history of a call, read in bounded portions, equals one read of it all."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from tests.turns.long_chats import long_chat
from tests.turns.world import OWNER, World
from turnstream.core import history
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound
from turnstream.providers import conversations
from turnstream.store.base import Query
from turnstream.store.operations.deleting import DeleteChat
from turnstream.store.portions import Bounds, Portion
from turnstream.store.queries import AllBlocks, GetTurn
from turnstream.turns import histories
from turnstream.turns.new_turns import TurnRequest

pytestmark = pytest.mark.fault(40)


async def chat_with(world: World, sizes: list[list[int]], **options: Any) -> list[str]:
    """Return the ids of turns in a new chat, in a row. Each has blocks of `size` characters."""
    insert = long_chat(await world.chat(), sizes, **options)
    await world.store.write(insert)
    return [turn.id for turn in insert.turns]


class Watched:
    """A store that notes the portions of its reads."""

    def __init__(self, world: World) -> None:
        self._read = world.store.read
        self.portions: list[Portion] = []
        world.store.read = self.read

    async def read(self, query: Query[Any], *, seconds: float | None = None) -> Any:
        found = await self._read(query, seconds=seconds)
        if isinstance(found, tuple):
            self.portions += [part for part in found if isinstance(part, Portion)]
        return found


SHAPES: dict[str, list[list[int]]] = {
    "short": [[3], [4]],
    "many small turns": [[1]] * 150,
    "turns without blocks": [[] for _ in range(70)],
    "one huge block": [[5], [700_000], [5]],
    "a turn of many large blocks": [[5], [90_000] * 20, [5], [90_000] * 3],
    "mixed": [[random.Random(n).randrange(60_000) for _ in range(n % 5)] for n in range(90)],
}


async def one_by_one(world: World, turn_ids: list[str]) -> histories.Path:
    """The same history, read turn by turn."""
    return [
        (
            await world.store.read(GetTurn(owner=OWNER, turn_id=turn_id)),
            tuple(row.block for row in await world.store.read(AllBlocks(turn_id=turn_id))),
        )
        for turn_id in turn_ids
    ]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_history_in_portions_is_the_history(world: World, shape: str) -> None:
    turn_ids = await chat_with(world, SHAPES[shape])
    expected = await one_by_one(world, turn_ids)
    watched = Watched(world)
    assert await histories.read_history(world.store, turn_ids[-1]) == expected
    largest = max((length for lengths in SHAPES[shape] for length in lengths), default=0) * 2
    for portion in watched.portions:
        assert len(portion.pieces) <= histories.PORTION.turns
        texts = sum(
            len((row.block.text_content or "").encode()) for piece in portion.pieces for row in piece.blocks
        )
        assert texts <= histories.PORTION.size + largest + 100


async def test_ids_in_any_order_and_unknown_turns_give_the_same(world: World) -> None:
    ids = [new_id() for _ in range(40)]
    random.Random(1).shuffle(ids)
    turn_ids = await chat_with(world, [[9, 9]] * 40, ids=ids)
    expected = await one_by_one(world, turn_ids)
    assert await histories.read_history(world.store, turn_ids[-1]) == expected
    assert await histories.read_history(world.store, new_id()) == []


async def test_a_turn_at_work_is_read_in_one_piece(world: World) -> None:
    turn_ids = await chat_with(world, [[90_000] * 20], status="streaming")
    watched = Watched(world)
    path = await histories.read_history(world.store, turn_ids[-1])
    assert len(path[0][1]) == 20
    assert [piece.ends for portion in watched.portions for piece in portion.pieces] == [True]


@pytest.mark.parametrize("cut", ["between turns", "within a turn"])
async def test_a_chat_that_is_deleted_meanwhile_gives_no_shorter_history(
    world: World, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    bounds = Bounds(turns=1, size=10**9) if cut == "between turns" else Bounds(turns=8, size=1)
    monkeypatch.setattr(histories, "PORTION", bounds)
    turn_ids = await chat_with(world, [[9, 9]] * 3)
    read = world.store.read
    reads: list[Query[Any]] = []

    async def read_and_delete(query: Query[Any], *, seconds: float | None = None) -> Any:
        found = await read(query, seconds=seconds)
        if not reads:
            chat_id = (await read(GetTurn(owner=OWNER, turn_id=turn_ids[0]))).chat_id
            await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))
        reads.append(query)
        return found

    monkeypatch.setattr(world.store, "read", read_and_delete)
    with pytest.raises(NotFound):
        await histories.read_history(world.store, turn_ids[-1])


@pytest.mark.parametrize(("turns", "length"), [(300, 10), (4, 200_000)])
async def test_a_large_history_is_built_off_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, turns: int, length: int
) -> None:
    turn_ids = await chat_with(world, [[length]] * turns)
    threads: list[threading.Thread] = []
    build = history.build_history

    def build_watched(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return build(*args, **options)

    monkeypatch.setattr("turnstream.turns.model_turns.build_history", build_watched)
    first = await world.store.read(GetTurn(owner=OWNER, turn_id=turn_ids[0]))
    request = TurnRequest(
        chat_id=first.chat_id, blocks=(Block(0, "text", "go on"),), prev_turn_id=turn_ids[-1]
    )
    started = await world.commands.send(OWNER, request)
    await world.commands.interrupt(OWNER, started.assistant_turn.id)
    assert threads
    assert threading.main_thread() not in threads


async def test_what_is_large_is_told_by_blocks_text_and_contents() -> None:
    few = [history.PastTurn("user", "complete", [Block(0, "text", "a")])] * 256
    assert not conversations.is_large(few)
    assert conversations.is_large([*few, few[0]])
    data = Block(0, "image", None, {"media_type": "image/png", "data": "A" * (conversations.LARGE_TEXT + 1)})
    assert conversations.is_large([history.PastTurn("user", "complete", [data])])
