"""The limit of a turn's history is stored with its request. A turn that continues sends the same history."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from pathlib import Path

import pytest

from tests.turns.tools.asking import YES, decide, deleting, waiting
from tests.turns.tools.scripted import Answer, ScriptedProvider, answer, calls, says, use
from tests.turns.world import OWNER, World
from turnstream.store.base import TurnRecord
from turnstream.store.queries import GetTurn
from turnstream.turns.histories import read_history
from turnstream.turns.new_turns import TurnRequest

ASKS = answer(says("On it."), calls(1, "delete", '{"path": "a"}'), stop="tool_use")


def scripted(*answers: Answer) -> ScriptedProvider:
    """A provider that gives `answers` to the third call and the calls after it."""
    return ScriptedProvider(answer(says("One.")), answer(says("Two.")), *answers, answer(says("Done.")))


def texts(provider: ScriptedProvider) -> list[str]:
    """The texts of the last request."""
    blocks = [block for message in provider.asked[-1].messages for block in message.blocks]
    return [block.text_content for block in blocks if block.text_content]


async def limited_turn(world: World, limit: int) -> TurnRecord:
    """A turn with `limit`, after two others."""
    turn = (await world.ask("first")).assistant_turn
    await world.ended(turn.id)
    turn = (await world.ask("second", chat_id=turn.chat_id, prev_turn_id=turn.id)).assistant_turn
    await world.ended(turn.id)
    asked = await world.ask("third", chat_id=turn.chat_id, prev_turn_id=turn.id, history_limit=limit)
    return asked.assistant_turn


@pytest.mark.parametrize(("limit", "before"), [(0, []), (1, []), (2, ["second", "Two."])])
async def test_a_turn_that_waited_continues_with_the_history_that_it_began_with(
    tmp_path: Path, limit: int, before: list[str]
) -> None:
    provider = scripted(ASKS)
    async with deleting(tmp_path) as world:
        use(world.catalog, provider)
        turn = await limited_turn(world, limit)
        (approval,) = (await waiting(world, turn.id)).approvals
        assert texts(provider) == [*before, "third"]
        await decide(world, approval, YES)
        assert (await world.ended(turn.id)).turn.status == "complete"
    assert texts(provider) == [*before, "third", "On it."]


@pytest.mark.parametrize(("limit", "before"), [(0, []), (2, ["second", "Two."])])
async def test_a_turn_that_begins_again_has_the_history_of_its_first_call(
    tmp_path: Path, limit: int, before: list[str]
) -> None:
    """The source is made from the stored rows alone, as on a node that takes a turn over."""
    provider = scripted()
    async with World(tmp_path / "turns.sqlite") as world:
        use(world.catalog, provider)
        turn = await limited_turn(world, limit)
        await world.ended(turn.id)
        assert texts(provider) == [*before, "third"]
        stored = await world.store.read(GetTurn(owner=OWNER, turn_id=turn.id))
        assert stored.history_limit == limit
        path = await read_history(world.store, stored.prev_turn_id or "")
        source = await world.commands._models.continued(stored, path)
        provider.asked.clear()
        again = await world.start(source)
        await world.ended(again.turn.id)
    assert len(provider.asked) == 1
    assert texts(provider) == [*before, "third"]


async def test_another_answer_to_a_question_counts_the_turns_before_the_question(tmp_path: Path) -> None:
    provider = scripted()
    async with World(tmp_path / "turns.sqlite") as world:
        use(world.catalog, provider)
        turn = await limited_turn(world, 2)
        await world.ended(turn.id)
        other = await world.commands.regenerate(OWNER, turn.id, TurnRequest(history_limit=2))
        await world.ended(other.assistant_turn.id)
    assert texts(provider) == ["second", "Two.", "third"]
