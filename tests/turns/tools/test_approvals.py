"""Tools that ask first: the turn waits in the store, and continues once its calls are answered."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.tools.asking import (
    DONE,
    NO,
    YES,
    Deleting,
    asked_for_both,
    decide,
    deleting,
    ending_of,
    names_of,
    waiting,
)
from tests.turns.tools.scripted import ScriptedProvider, answer, calls, results, use
from tests.turns.world import OWNER, SECONDS, World, ticks
from turnstream.errors import Conflict, InvalidRequest, NotFound
from turnstream.store.base import ApprovalRecord
from turnstream.store.operations.approvals import EXPIRED, ContinueTurn
from turnstream.tools import ToolRunner, tool
from turnstream.tools.asking import NOT_APPROVED
from turnstream.tools.base import by_name


@pytest.mark.requirement("G7")
async def test_approved_calls_run_and_denied_calls_are_errors(tmp_path: Path) -> None:
    files = Deleting()
    async with deleting(tmp_path, files=files) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        assert files.ran == ["look b"]
        assert [approval.tool_use_id for approval in state.approvals] == ["call-1", "call-3"]
        first, second = state.approvals
        await decide(world, second, NO)
        assert (await world.state(turn_id)).turn.status == "waiting"
        await decide(world, first, YES)
        state = await world.ended(turn_id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "end_turn")
        blocks = [row.block for row in state.blocks]
        assert [block.sequence for block in blocks] == list(range(len(blocks)))
        assert results(blocks) == [
            ("call-2", "b is there", False),
            ("call-1", "a is gone", False),
            ("call-3", "not approved, and nothing was run: not today", True),
        ]
        assert files.ran == ["look b", "delete a"]
        assert blocks[-1].text_content == "Done."
        assert [attempt.step for attempt in state.attempts] == [0, 1]


@pytest.mark.requirement("G7", "D1")
async def test_every_cut_of_a_turn_that_waited_resumes_to_the_stored_blocks(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        watchers = [Client(), Client()]
        watching = [asyncio.create_task(world.watched(turn_id, client)) for client in watchers]
        state = await waiting(world, turn_id)
        for approval, given in zip(state.approvals, (YES, NO), strict=True):
            await decide(world, approval, given)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*watching)
        stored = [row.block for row in await world.stored(turn_id)]
        for client in watchers:
            assert client.now.blocks == stored
            names = names_of(client)
            assert names.count("approval_request") == names.count("approval_response") == 2
        assert len({frame.generation for frame in watchers[0].frames}) == 2
        for knowledge in watchers[0].past:
            late = Client()
            late.now = knowledge.copy()
            await world.watched(turn_id, late)
            assert late.now.blocks == stored, knowledge.cursor
            assert late.now.fold.approvals == {}
            assert "notice" not in names_of(late)


async def test_a_late_watcher_of_a_waiting_turn_gets_the_requests_and_stays(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        assert not world.registry.waiting_logs
        first, second = await world.watch(turn_id), await world.watch(turn_id)
        assert first.log is second.log
        client = await asked_for_both(first)
        for knowledge in client.past:
            again = await world.watch(turn_id, knowledge.cursor)
            late = await asked_for_both(again, knowledge)
            assert late.now.blocks == client.now.blocks
            again.close()
        del again
        next_frames = asyncio.create_task(first.next())
        await ticks(5)
        assert not next_frames.done()
        await decide(world, state.approvals[0], NO)
        async with asyncio.timeout(SECONDS):
            client.receive(await next_frames or b"")
        assert names_of(client)[-1] == "approval_response"
        assert len(client.now.fold.approvals) == 1
        first.close()
        second.close()
        del first, second, next_frames
        gc.collect()
        assert not world.registry.waiting_logs
        assert world.registry.active_count == 0


async def test_an_answer_counts_once(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        approval, other = (await waiting(world, turn_id)).approvals
        answers = await asyncio.gather(
            *(decide(world, approval, given) for given in (YES, NO, YES, NO)), return_exceptions=True
        )
        assert [type(found) for found in answers] == [ApprovalRecord, Conflict, ApprovalRecord, Conflict]
        assert answers[0] == answers[2]
        assert isinstance(answers[1], Conflict)
        assert answers[1].code == "approval_decided"
        with pytest.raises(NotFound):
            await decide(world, other, YES, owner="eve")
        await decide(world, other, NO)
        state = await world.ended(turn_id)
        assert state.turn.status == "complete"
        assert await decide(world, other, NO) == (await decide(world, other, NO))
        with pytest.raises(Conflict, match="another answer"):
            await decide(world, other, YES)


async def test_both_answers_at_once_continue_the_turn_once(tmp_path: Path) -> None:
    files = Deleting()
    async with deleting(tmp_path, files=files) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        await asyncio.gather(*(decide(world, approval, YES) for approval in state.approvals))
        state = await world.ended(turn_id)
        assert state.turn.status == "complete"
        assert sorted(files.ran) == ["delete a", "delete c", "look b"]
        assert len(world.store.times_of(ContinueTurn)) == 1


async def test_an_approval_that_expires_is_denied(tmp_path: Path) -> None:
    files = Deleting()
    async with deleting(tmp_path, files=files, approval=0.05) as world:
        clock = asyncio.create_task(world.commands.approvals.run())
        try:
            turn_id = (await world.ask("go")).assistant_turn.id
            client = await world.watched(turn_id)
        finally:
            clock.cancel()
        assert ending_of(client) == "turn_complete"
        state = await world.state(turn_id)
        assert [said for _, said, failed in results([row.block for row in state.blocks]) if failed] == [
            f"{NOT_APPROVED}: {EXPIRED}"
        ] * 2
        assert files.ran == ["look b"]


async def test_an_answer_after_its_time_is_refused(tmp_path: Path) -> None:
    async with deleting(tmp_path, approval=1e-6) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        approval, _ = (await waiting(world, turn_id)).approvals
        with pytest.raises(Conflict) as refused:
            await decide(world, approval, YES)
        assert refused.value.code == "approval_expired"


@pytest.mark.requirement("D1", "G5", "P4")
async def test_an_interrupt_ends_a_waiting_turn(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        watcher = asyncio.create_task(world.watched(turn_id))
        async with asyncio.timeout(SECONDS):
            ended = await world.commands.interrupt(OWNER, turn_id)
            client = await watcher
        assert (ended.turn.status, ended.approvals) == ("cancelled", ())
        blocks = [row.block for row in ended.blocks]
        assert client.now.blocks == blocks
        assert [said for _, said, failed in results(blocks) if failed] == ["cancelled", "cancelled"]
        with pytest.raises(Conflict) as refused:
            await decide(world, state.approvals[0], YES)
        assert refused.value.code == "turn_ended"
        assert (await world.commands.interrupt(OWNER, turn_id)).turn.status == "cancelled"


async def test_a_chat_with_a_waiting_turn_can_be_deleted(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        chat_id = await world.chat()
        turn_id = (await world.ask("go", chat_id=chat_id)).assistant_turn.id
        state = await waiting(world, turn_id)
        watcher = asyncio.create_task(world.watched(turn_id))
        await ticks(5)
        async with asyncio.timeout(SECONDS):
            await world.commands.chats.delete(OWNER, chat_id)
            assert ending_of(await watcher) == "turn_cancelled"
        with pytest.raises(NotFound):
            await decide(world, state.approvals[0], YES)


async def test_a_reply_to_a_waiting_turn_is_refused(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn = (await world.ask("go")).assistant_turn
        await waiting(world, turn.id)
        with pytest.raises(Conflict, match="waits for an approval") as refused:
            await world.ask("and?", chat_id=turn.chat_id, prev_turn_id=turn.id)
        assert refused.value.code == "turn_active"


@pytest.mark.requirement("G7", "D5", "P3")
async def test_a_waiting_turn_survives_a_crash_and_a_restart(tmp_path: Path) -> None:
    files = Deleting()
    async with deleting(tmp_path, files=files) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        client = await asked_for_both(await world.watch(turn_id))
        await world.crash()
    async with deleting(tmp_path, DONE, files=files) as world:
        assert world.recovered == 0
        assert (await world.state(turn_id)).approvals == state.approvals
        for approval in state.approvals:
            await decide(world, approval, YES)
        await world.watched(turn_id, client)
        assert ending_of(client) == "turn_complete"
        assert client.now.blocks == [row.block for row in await world.stored(turn_id)]
        assert sorted(files.ran) == ["delete a", "delete c", "look b"]
        assert "notice" not in names_of(client)


async def test_turns_whose_answers_are_stored_continue_at_the_next_start(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        world.registry.draining = True
        for approval in state.approvals:
            await decide(world, approval, NO)
        assert (await world.state(turn_id)).turn.status == "waiting"
    async with deleting(tmp_path, DONE) as world:
        await world.commands.approvals.check()
        assert (await world.ended(turn_id)).turn.status == "complete"


async def test_first_asks_until_a_call_was_approved_in_the_chat(tmp_path: Path) -> None:
    files = Deleting()
    mail = answer(calls(0, "send", '{"to": "ada"}'), stop="tool_use")
    async with deleting(tmp_path, mail, DONE, mail, DONE, mail, DONE, files=files) as world:
        chat_id = await world.chat()
        turn_id = (await world.ask("go", chat_id=chat_id)).assistant_turn.id
        await decide(world, (await waiting(world, turn_id)).approvals[0], YES)
        await world.ended(turn_id)
        turn_id = (await world.ask("again", chat_id=chat_id)).assistant_turn.id
        assert (await world.ended(turn_id)).turn.status == "complete"
        assert files.ran == ["send ada", "send ada"]
        await waiting(world, (await world.ask("elsewhere")).assistant_turn.id)


@pytest.mark.parametrize("kind", ["sync", "async", "failing"])
async def test_a_function_of_the_arguments_decides(tmp_path: Path, kind: str) -> None:
    def costly(arguments: dict[str, Any]) -> bool:
        return arguments["amount"] > 10

    async def costly_too(arguments: dict[str, Any]) -> bool:
        return arguments["amount"] > 10

    def failing(arguments: dict[str, Any]) -> bool:
        raise RuntimeError(str(arguments))

    @tool(ask={"sync": costly, "async": costly_too, "failing": failing}[kind])
    def pay(amount: int) -> str:
        """Pay."""
        return f"{amount} paid"

    two = answer(
        calls(0, "pay", '{"amount": 5}'),
        calls(1, "pay", '{"amount": 50}'),
        calls(2, "pay", '{"amount": "much"}'),
        stop="tool_use",
    )
    async with World(tmp_path / "turns.sqlite", tools=ToolRunner(by_name([pay]))) as world:
        use(world.catalog, ScriptedProvider(two, DONE))
        state = await waiting(world, (await world.ask("go")).assistant_turn.id)
        asked = ["call-0", "call-1"] if kind == "failing" else ["call-1"]
        assert [approval.tool_use_id for approval in state.approvals] == asked


async def test_a_call_whose_stored_arguments_were_changed_is_not_approved(tmp_path: Path) -> None:
    files = Deleting()
    async with deleting(tmp_path, files=files) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        approval, _ = (await waiting(world, turn_id)).approvals
        with sqlite3.connect(world.path) as connection:
            connection.execute(
                "UPDATE turnstream_blocks SET content = replace(content, '\"a\"', '\"z\"')"
                " WHERE turn_id = ? AND sequence = ?",
                (turn_id, approval.sequence),
            )
        connection.close()
        with pytest.raises(Conflict) as refused:
            await decide(world, approval, YES)
        assert refused.value.code == "input_changed"
        await decide(world, approval, NO)
        assert files.ran == ["look b"]


async def test_a_turn_that_cannot_continue_ends_with_its_error(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)

        def resolve(name: str, _keys: object = None) -> Any:
            raise InvalidRequest(f"{name} is not configured any more")

        world.catalog.resolve = resolve  # type: ignore[method-assign]
        for approval in state.approvals:
            await decide(world, approval, YES)
        state = await world.ended(turn_id)
        assert (state.turn.status, state.turn.error_code) == ("error", "invalid_request")
        assert len(results([row.block for row in state.blocks])) == 3


async def test_the_account_of_a_turn_that_waited_has_all_calls(tmp_path: Path) -> None:
    async with deleting(tmp_path) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        for approval in state.approvals:
            await decide(world, approval, NO)
        state = await world.ended(turn_id)
        assert (state.turn.usage.input_tokens, state.turn.usage.output_tokens) == (20, 10)
        assert [step.step for step in state.turn.steps] == [0, 1]
