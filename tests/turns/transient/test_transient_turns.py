"""Turns without rows: the engine runs them like other turns, without the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import msgspec
import pytest

from tests.turnlog.watching import Client
from tests.turns.failing import world_of as failing_world
from tests.turns.tools.scripted import ScriptedProvider, answer, calls, says, world_of
from tests.turns.world import OWNER, SECONDS, Feed, World, logged
from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import ContentBlockStart, MessageStart, TextDelta
from turnstream.core.turn_events import Data
from turnstream.errors import Conflict, InvalidRequest, NotFound
from turnstream.model_loop.sources import ForeignSource
from turnstream.providers.pricing import Pricing
from turnstream.store.transient import turn_rows, turns
from turnstream.tools import tool
from turnstream.turns.commands import TurnRequest
from turnstream.turns.conversations import ResentConversation
from turnstream.turns.executor import Executor
from turnstream.turns.new_turns import StartedTurn

BEFORE = (
    Message("user", (Block(0, "text", "one"),)),
    Message("assistant", (Block(0, "text", "two"),)),
)


class Unread(ForeignSource):
    """A source that records whether it was closed."""

    was_closed = False

    async def close(self) -> None:
        self.was_closed = True
        await super().close()


async def ask(world: World, text: str = "hello", owner: str = OWNER, **options: object) -> StartedTurn:
    options = {"model": "sim/echo:pace=0", "messages": BEFORE, **options}
    request = TurnRequest(blocks=(Block(0, "text", text),), store=False, **options)  # type: ignore[arg-type]
    return await world.commands.send(owner, request)


async def start(world: World, feed: Feed) -> Executor:
    request = TurnRequest(store=False)
    started = await world.commands.start(OWNER, request, ForeignSource(feed.events()))
    return world.executor(started.assistant_turn.id)


async def test_a_turn_without_rows_neither_reads_nor_writes(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite", pricing=Pricing()) as world:
        world.store.reads.clear()
        started = await ask(world, "hello there")
        assert started.user_turn is None
        turn_id = started.assistant_turn.id
        client = await world.watched(turn_id)
        state = await world.ended(turn_id)
        assert [row.block for row in state.blocks] == client.now.blocks
        assert state.blocks[0].block.text_content == "hello there"
        assert state.turn.status == "complete"
        assert [attempt.outcome for attempt in state.attempts] == ["complete"]
        end = client.frames[-1]
        assert (end.name, end.data["output_tokens"]) == ("turn_complete", state.turn.usage.output_tokens)
        assert world.registry.measures.of_model(state.turn.steps[0].model).calls == 1
        assert world.store.writes == []
        assert world.store.reads == []

        await world.registry.sweep(monotonic() + 599)
        assert (await world.state(turn_id)).turn == state.turn
        await world.registry.sweep(monotonic() + 601)
        for gone in (world.state(turn_id), world.watch(turn_id), world.commands.interrupt(OWNER, turn_id)):
            with pytest.raises(NotFound):
                await gone
        assert len(world.registry.transient) == 0


async def test_only_the_owner_finds_it_and_no_list_shows_it(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        chat_id = await world.chat()
        turn_id = (await ask(world, messages=(), chat_id=chat_id)).assistant_turn.id
        await world.ended(turn_id)
        with pytest.raises(NotFound):
            await world.commands.state("eve", turn_id)
        with pytest.raises(NotFound):
            await world.watching.subscribe("eve", turn_id)
        assert (await world.commands.chats.all_turns(OWNER, chat_id)).turn_ids == []
        with pytest.raises(NotFound, match="a transient turn"):
            await world.ask("more", chat_id=chat_id, prev_turn_id=turn_id)
        with pytest.raises(InvalidRequest):
            await world.commands.regenerate(OWNER, turn_id, TurnRequest())


async def test_it_answers_a_stored_chat_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    provider = ScriptedProvider(answer(says("first")), answer(says("second")))
    async with world_of(tmp_path, provider) as world:
        first = (await world.ask("go")).assistant_turn
        await world.ended(first.id)
        world.store.writes.clear()
        options = {"chat_id": first.chat_id, "prev_turn_id": first.id, "messages": ()}
        turn_id = (await ask(world, "and now?", **options)).assistant_turn.id
        await world.ended(turn_id)
        assert [message.text for message in provider.asked[1].messages] == ["go", "first", "and now?"]
        assert world.store.writes == []


@pytest.mark.parametrize("ring_limit", [4096, 64 * 1024])
async def test_every_cut_resumes_to_the_same_blocks_while_it_runs_and_after(
    tmp_path: Path, ring_limit: int
) -> None:
    async with World(tmp_path / "turns.sqlite", ring_limit=ring_limit) as world:
        options = {"model": "sim/thinking:pace=0"}
        turn_id = (await ask(world, **options)).assistant_turn.id
        client = await world.watched(turn_id)
        blocks = [row.block for row in (await world.ended(turn_id)).blocks]
        assert client.now.blocks == blocks
        assert len(blocks) > 1
        for knowledge in (*client.past[::7], Client().now):
            late = Client()
            late.now = knowledge.copy()
            await world.watched(turn_id, late)
            assert late.now.blocks == blocks
            assert late.now.ended


async def test_a_watcher_that_fell_off_the_ring_misses_nothing(tmp_path: Path) -> None:
    feed = Feed()
    async with World(tmp_path / "turns.sqlite", ring_limit=4096) as world:
        executor = await start(world, feed)
        client, subscription = Client(), await world.watch(executor.turn.id)
        await feed.say(MessageStart("msg", "m"), ContentBlockStart(0, "text"), TextDelta(0, "begin "))
        await feed.say(Data("chart", {"points": [1, 2]}))
        while client.now.cursor is None or subscription.lag:
            client.receive(await subscription.next() or b"")
        for number in range(400):
            await feed.say(TextDelta(0, f"word {number} "))
        assert not executor.log.covers(subscription.cursor.seq)
        feed.end()
        async with asyncio.timeout(SECONDS):
            while (data := await subscription.next()) is not None:
                client.receive(data)
        text = "begin " + "".join(f"word {number} " for number in range(400))
        assert client.now.blocks[0].text_content == text
        assert client.now.ended
        late = await world.watched(executor.turn.id)
        assert [frame.data["data"] for frame in late.frames if frame.name == "data"] == [{"points": [1, 2]}]
        assert world.store.writes == []


async def test_a_watcher_that_began_reads_a_turn_that_is_dropped_meanwhile(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite", ring_limit=4096) as world:
        turn_id = (await ask(world, model="sim/thinking:pace=0")).assistant_turn.id
        early, running = Client(), await world.watch(turn_id)
        blocks = [row.block for row in (await world.ended(turn_id)).blocks]
        late, ended = Client(), await world.watch(turn_id)
        await world.registry.sweep(monotonic() + 601)
        assert turn_id not in world.registry.transient
        for client, subscription in ((early, running), (late, ended)):
            while (data := await subscription.next()) is not None:
                client.receive(data)
            assert client.now.blocks == blocks
            assert client.now.ended
        with pytest.raises(NotFound):
            await world.watch(turn_id)


async def test_its_tools_run_and_each_call_gets_the_conversation(tmp_path: Path) -> None:
    def look(place: str) -> str:
        """Look somewhere."""
        return f"seen {place}"

    provider = ScriptedProvider(
        answer(calls(0, "look", '{"place": "here"}'), stop="tool_use"), answer(says("Done."))
    )
    async with world_of(tmp_path, provider, look) as world:
        turn_id = (await ask(world, "go")).assistant_turn.id
        state = await world.ended(turn_id)
        kinds = [row.block.block_type for row in state.blocks]
        assert kinds == ["tool_use", "tool_result", "text"]
        texts = [message.text for message in provider.asked[1].messages]
        assert texts[:3] == ["one", "two", "go"]
        assert [message.role for message in provider.asked[1].messages][3:] == ["assistant", "user"]
        assert world.store.writes == []


async def test_retracted_blocks_are_gone_for_late_watchers_too(tmp_path: Path) -> None:
    def look(place: str) -> str:
        """Look somewhere."""
        return f"seen {place}"

    provider = ScriptedProvider(
        answer(says("Then."), calls(1, "look", '{"place": "there"}'), stop=None),
        answer(says("Now.")),
    )
    async with failing_world(tmp_path, {"a": provider}, look) as world:
        turn_id = (await ask(world, model="sim/a")).assistant_turn.id
        client = await world.watched(turn_id)
        blocks = [row.block for row in (await world.ended(turn_id)).blocks]
        assert [block.text_content for block in blocks] == ["Now."]
        assert "block_reset" in [frame.name for frame in client.frames]
        for knowledge in client.past:
            late = Client()
            late.now = knowledge.copy()
            await world.watched(turn_id, late)
            assert late.now.blocks == blocks
        assert world.store.writes == []


async def test_it_never_waits_for_an_approval(tmp_path: Path) -> None:
    @tool(ask="always")
    def delete(path: str) -> str:
        """Delete a file."""
        return path

    def look(place: str) -> str:
        """Look somewhere."""
        return place

    provider = ScriptedProvider(answer(says("Done.")))
    async with world_of(tmp_path, provider, delete, look) as world:
        with pytest.raises(InvalidRequest, match="delete asks first") as refused:
            await ask(world, tools=("delete",))
        assert refused.value.code == "approval_impossible"
        turn_id = (await ask(world)).assistant_turn.id
        await world.ended(turn_id)
        assert [offered.name for offered in provider.asked[0].tools] == ["look"]


async def test_an_interrupt_keeps_the_partial_text(tmp_path: Path) -> None:
    feed = Feed()
    async with World(tmp_path / "turns.sqlite") as world:
        executor = await start(world, feed)
        await feed.say(MessageStart("msg", "m"), ContentBlockStart(0, "text"), TextDelta(0, "half"))
        assert list(world.registry.journal_parts(whole=True)) == []
        state = await world.commands.interrupt(OWNER, executor.turn.id)
        assert state.turn.status == "cancelled"
        assert [(row.block.text_content, row.block.partial) for row in state.blocks] == [("half", True)]
        again = await world.commands.interrupt(OWNER, executor.turn.id)
        assert again.turn == state.turn
        assert (await world.watched(executor.turn.id)).frames[-1].name == "turn_cancelled"


async def test_a_deleted_chat_ends_its_turns_without_rows(tmp_path: Path) -> None:
    feed = Feed()
    async with World(tmp_path / "turns.sqlite") as world:
        chat_id = await world.chat()
        executor = await world.start_foreign(feed.events(), store=False, chat_id=chat_id)
        await feed.say(MessageStart("msg", "m"), ContentBlockStart(0, "text"), TextDelta(0, "half"))
        await world.commands.chats.delete(OWNER, chat_id)
        assert executor.turn.status == "cancelled"
        with pytest.raises(NotFound):
            await world.state(executor.turn.id)


async def test_a_key_starts_one_turn_while_that_turn_lives(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        keyed = {"idempotency_key": "k", "fingerprint": "f"}
        first = await ask(world, **keyed)
        again = await ask(world, **keyed)
        assert (again.replayed, again.assistant_turn.id) == (True, first.assistant_turn.id)
        other = await ask(world, owner="eve", **keyed)
        assert not other.replayed
        with pytest.raises(Conflict) as refused:
            await ask(world, idempotency_key="k", fingerprint="other")
        assert refused.value.code == "idempotency_mismatch"
        unread = Unread(Feed().events())
        same = await world.commands.start(OWNER, TurnRequest(store=False, **keyed), unread)
        assert same.replayed
        assert unread.was_closed
        for started in (first, other):
            await world.commands.ended(started.assistant_turn.id)
        await world.registry.sweep(monotonic() + 601)
        assert not (await ask(world, **keyed)).replayed
        assert world.store.writes == []


async def test_clients_ids_find_it_while_it_lives(tmp_path: Path) -> None:
    feed = Feed()
    async with World(tmp_path / "turns.sqlite") as world:
        conversations = world.commands.conversations
        conversation = ResentConversation(
            messages=BEFORE, new=(Block(0, "text", "hello"),), chat_id="c-1", run_id="r-1"
        )
        request = conversations.transient_request(conversation)
        request = msgspec.structs.replace(request, model="sim/echo")
        started = await world.commands.send(OWNER, request)
        turn = started.assistant_turn
        assert await conversations.chat_of(OWNER, "c-1") == turn.chat_id
        assert await conversations.turn_of(OWNER, None, "r-1", kind="run") == turn.id
        assert await conversations.turn_of(OWNER, turn.chat_id, turn.id, kind="run") == turn.id
        assert await conversations.turn_of("eve", None, "r-1", kind="run") is None
        await conversations.name_run(OWNER, turn.id, "r-2")
        assert await conversations.turn_of(OWNER, None, "r-2", kind="run") == turn.id
        second = await world.commands.start(
            OWNER, msgspec.structs.replace(request, client_run_id="r-3"), ForeignSource(feed.events())
        )
        assert second.assistant_turn.chat_id == turn.chat_id
        feed.end()
        await world.commands.ended(turn.id)
        await world.commands.ended(second.assistant_turn.id)
        await world.registry.sweep(monotonic() + 601)
        assert await conversations.chat_of(OWNER, "c-1") is None
        assert await conversations.turn_of(OWNER, None, "r-1", kind="run") is None
        assert world.store.writes == []


async def test_the_oldest_ended_turns_are_dropped_beyond_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_ENDED", 3)
    async with World(tmp_path / "turns.sqlite") as world:
        made = []
        for _ in range(5):
            made.append((await ask(world)).assistant_turn.id)
            await world.commands.ended(made[-1])
        living = [turn_id in world.registry.transient for turn_id in made]
        assert living == [False, False, True, True, True]
        monkeypatch.setattr(turns, "MAX_ENDED_BYTES", 1)
        await world.commands.ended((await ask(world)).assistant_turn.id)
        assert len(world.registry.transient) == 0


async def test_a_turn_beyond_its_limit_ends_with_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_rows, "LARGEST_TURN", 1000)
    async with World(tmp_path / "turns.sqlite") as world:
        turn_id = (await ask(world, "long " * 300)).assistant_turn.id
        client = await world.watched(turn_id)
        assert client.frames[-1].name == "turn_error"
        assert client.frames[-1].data["code"] == "transient_turn_too_large"
        assert (await world.state(turn_id)).turn.error_code == "transient_turn_too_large"


async def test_a_turn_whose_task_dies_is_ended_with_its_text(tmp_path: Path) -> None:
    feed = Feed()
    async with World(tmp_path / "turns.sqlite") as world:
        executor = await start(world, feed)
        await feed.say(MessageStart("msg", "m"), ContentBlockStart(0, "text"), TextDelta(0, "half"))
        assert executor.task is not None
        executor.task.cancel()
        await logged(executor, lambda log: log.closed)
        await world.registry.sweep(monotonic())
        state = await world.state(executor.turn.id)
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert state.blocks[0].block.text_content == "half"
        assert world.store.writes == []
