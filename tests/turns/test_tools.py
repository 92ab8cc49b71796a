"""The tool loop: calls, results, rounds, and every way in which it may be cut short (requirements G1 to G6, B4)."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.turns.world import OWNER, SECONDS, World, logged
from turnstream.core.blocks import Block
from turnstream.core.cursor import Cursor
from turnstream.core.history import CANCELLED_BY_ERROR
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    StopReason,
    StreamEvent,
    TextDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import StreamIncomplete
from turnstream.providers.catalog import Catalog
from turnstream.tools import ToolContext, ToolLimits, ToolRunner, tool
from turnstream.tools.base import by_name
from turnstream.turns.commands import TurnRequest
from turnstream.turns.executor import Executor
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest, ToolDefinition

Late: TypeAlias = Callable[[], Awaitable[StreamEvent]]
Answer: TypeAlias = Sequence[StreamEvent | Late]


class ScriptedProvider:
    """Answers call after call with what the test wrote down, and remembers what it was asked."""

    def __init__(self, *answers: Answer | Callable[[], Answer]) -> None:
        self.name = "scripted"
        self.wire = WIRES["anthropic"]
        self.asked: list[ModelRequest] = []
        self.hold: asyncio.Event | None = None
        """Where it is set, an answer's end marker waits for it."""
        self._answers = list(answers)

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[Answer]]:
        self.wire.encode_request(request)  # what cannot be encoded fails here, as it would on the wire
        WIRES["openai-chat"].encode_request(request)
        self.asked.append(request)
        answer = self._answers[min(len(self.asked), len(self._answers)) - 1]

        async def batches() -> AsyncIterator[Answer]:
            events = list(answer() if callable(answer) else answer)
            for event in events:
                if isinstance(event, MessageStop) and self.hold is not None:
                    await self.hold.wait()
                yield [await event() if callable(event) else event]

        yield batches()

    async def close(self) -> None:
        """Nothing is kept open."""


def says(text: str, index: int = 0) -> list[StreamEvent]:
    return [ContentBlockStart(index, "text"), TextDelta(index, text), ContentBlockStop(index)]


def calls(
    index: int, name: str, arguments: str | Late = "{}", *, identity: str | None = None
) -> list[StreamEvent | Late]:
    content = {"tool_use_id": identity or f"call-{index}", "tool_name": name}
    start = ContentBlockStart(index, "tool_use", content)
    written = ToolInputDelta(index, arguments) if isinstance(arguments, str) else arguments
    return [start, written, ContentBlockStop(index)]


def answer(
    *blocks: Sequence[StreamEvent | Late], stop: StopReason | None = "end_turn"
) -> list[StreamEvent | Late]:
    events: list[StreamEvent | Late] = [
        MessageStart("msg", "m"),
        *(event for block in blocks for event in block),
    ]
    if stop is not None:
        events += [Metadata(Usage(10, 5)), MessageStop(stop)]
    return events


@asynccontextmanager
async def world_of(
    path: Path, provider: ScriptedProvider, *functions: Any, **limits: Any
) -> AsyncIterator[World]:
    runner = ToolRunner(by_name(functions), ToolLimits(**limits))
    async with World(path / "turns.sqlite", tools=runner) as world:
        _use(world.catalog, provider)
        yield world


def _use(catalog: Catalog, provider: ScriptedProvider) -> None:
    catalog.resolve = lambda _name: (provider, "m")  # type: ignore[method-assign,assignment]


def results(blocks: Sequence[Block]) -> list[tuple[str, Any, bool]]:
    """Of each tool_result: whose it is, what it says, whether it is an error."""
    found = [block.content or {} for block in blocks if block.block_type == "tool_result"]
    return [(content["tool_use_id"], content["content"], content["is_error"]) for content in found]


async def blocks_of(world: World, turn_id: str) -> list[Block]:
    return [row.block for row in (await world.ended(turn_id)).blocks]


@pytest.mark.requirement("G1", "G2", "F1")
async def test_results_come_in_the_order_of_the_calls_and_the_turn_goes_on(tmp_path: Path) -> None:
    second_has_run = asyncio.Event()

    async def first() -> str:
        """Wait for the other: they run at once."""
        await second_has_run.wait()
        return "one"

    def second(value: int, context: ToolContext) -> dict[str, object]:
        """Run in a thread."""
        loop.call_soon_threadsafe(second_has_run.set)
        return {"value": value, "plan": context.metadata["plan"], "owner": context.owner}

    loop = asyncio.get_running_loop()
    provider = ScriptedProvider(
        answer(says("Let me look."), calls(1, "first"), calls(2, "second", '{"value": 7}'), stop="tool_use"),
        answer(says("Done.")),
    )
    async with world_of(tmp_path, provider, first, second) as world:
        started = await world.ask("go", metadata={"plan": "free"})
        turn_id = started.assistant_turn.id
        blocks = await blocks_of(world, turn_id)
        assert [(block.sequence, block.block_type) for block in blocks] == [
            (0, "text"),
            (1, "tool_use"),
            (2, "tool_use"),
            (3, "tool_result"),
            (4, "tool_result"),
            (5, "text"),
        ]
        assert results(blocks) == [
            ("call-1", "one", False),
            ("call-2", '{"value":7,"plan":"free","owner":"local"}', False),
        ]
        state = await world.state(turn_id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "end_turn")
        assert state.turn.usage == Usage(20, 10)
        client = await world.watched(turn_id)
        assert client.now.blocks == blocks
        assert [tool.name for tool in provider.asked[0].tools] == ["first", "second"]
        roles = [(message.role, len(message.blocks)) for message in provider.asked[1].messages]
        assert roles == [("user", 1), ("assistant", 3), ("user", 2)]


@pytest.mark.requirement("G1")
async def test_a_step_holds_its_tools(tmp_path: Path) -> None:
    def ping() -> str:
        """Answer."""
        return "pong"

    provider = ScriptedProvider(answer(calls(0, "ping"), stop="tool_use"), answer(says("Pong.")))
    async with world_of(tmp_path, provider, ping) as world:
        executor = await _started(world)
        subscription = await world.watch(executor.turn.id, str(Cursor(executor.turn.generation, 0)))
        names: list[str] = []
        async with asyncio.timeout(SECONDS):
            while (data := await subscription.next()) is not None:
                names += [line[7:] for line in data.decode().splitlines() if line.startswith("event: ")]
        assert names == [
            *("turn_start", "step_start"),
            *("block_start", "block_delta", "block_stop", "usage"),
            *("block_start", "block_delta", "block_stop", "step_stop", "step_start"),
            *("block_start", "block_delta", "block_stop", "usage", "step_stop", "turn_complete"),
        ]


async def _started(world: World, **options: Any) -> Executor:
    started = await world.ask("go", **options)
    return world.executor(started.assistant_turn.id)


@pytest.mark.requirement("G3")
async def test_unknown_tools_and_failures_are_told_and_the_model_continues(tmp_path: Path) -> None:
    def broken() -> str:
        """Fail."""
        raise ValueError("secret")

    provider = ScriptedProvider(
        answer(calls(0, "imagined"), calls(1, "broken"), stop="tool_use"), answer(says("Sorry."))
    )
    async with world_of(tmp_path, provider, broken) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
        assert results(blocks) == [
            ("call-0", "there is no tool called imagined; there are: broken", True),
            ("call-1", "the tool failed (ValueError)", True),
        ]
        assert blocks[-1].text_content == "Sorry."


@pytest.mark.requirement("G3")
async def test_rounds_have_a_soft_limit_and_a_hard_one(tmp_path: Path) -> None:
    ran = 0

    def again() -> str:
        """Be called again."""
        nonlocal ran
        ran += 1
        return "more"

    provider = ScriptedProvider(lambda: answer(calls(0, "again", identity="same"), stop="tool_use"))
    async with world_of(tmp_path, provider, again, soft_rounds=2, rounds=3) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        blocks = await blocks_of(world, turn_id)
        assert ran == 3
        assert [result[1] for result in results(blocks)] == [
            "more",
            "more",
            "more",
            "not run: this turn has used all its rounds of tools",
        ]
        state = await world.state(turn_id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "max_rounds")
        reminded = [
            "Finish now" in (asked.messages[-1].blocks[-1].text_content or "") for asked in provider.asked
        ]
        assert reminded == [False, False, True, True]
        provider._answers[:] = [answer(says("Better."))]
        next_turn = await world.ask("and now?", chat_id=state.turn.chat_id, prev_turn_id=turn_id)
        assert (await world.ended(next_turn.assistant_turn.id)).turn.status == "complete"


@pytest.mark.requirement("G4")
async def test_progress_is_shown_while_the_tool_runs(tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def steps(context: ToolContext) -> str:
        """Tell how it goes."""
        context.progress("half")
        await seen.wait()
        return "done"

    provider = ScriptedProvider(answer(calls(0, "steps"), stop="tool_use"), answer(says("Good.")))
    async with world_of(tmp_path, provider, steps) as world:
        executor = await _started(world)
        subscription = await world.watch(executor.turn.id)
        shown = b""
        async with asyncio.timeout(SECONDS):
            while b"tool_progress" not in shown:
                shown += await subscription.next() or b""
        assert b'"tool_use_id":"call-0"' in shown
        assert b'"text":"half"' in shown
        assert executor.progress.runs_tools
        seen.set()
        assert results(await blocks_of(world, executor.turn.id)) == [("call-0", "done", False)]


@pytest.mark.requirement("G2")
async def test_an_idempotent_tool_runs_while_the_model_still_answers_and_no_other_does(
    tmp_path: Path,
) -> None:
    looked = asyncio.Event()
    written: list[int] = []

    @tool(idempotent=True)
    async def look() -> str:
        """Only look."""
        looked.set()
        return "seen"

    async def write() -> str:
        """Change the world."""
        written.append(1)
        return "written"

    provider = ScriptedProvider(
        answer(calls(0, "look"), calls(1, "write"), stop="tool_use"), answer(says("Fine."))
    )
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, provider, look, write) as world:
        executor = await _started(world)
        async with asyncio.timeout(SECONDS):
            await looked.wait()
        await logged(executor, lambda _log: executor.blocks_completed == 2)
        assert not written
        provider.hold.set()
        blocks = await blocks_of(world, executor.turn.id)
        assert results(blocks) == [("call-0", "seen", False), ("call-1", "written", False)]


@pytest.mark.requirement("G2")
async def test_a_tool_is_prepared_when_its_call_begins(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def connect(context: ToolContext) -> str:
        begun.set()
        return f"connected for {context.owner}, {context.tool_use_id}"

    @tool(prepare=connect)
    async def fetch(what: str, context: ToolContext) -> str:
        """Fetch it."""
        return f"{what} {context.prepared}"

    async def arguments() -> StreamEvent:
        await begun.wait()  # the model writes them only now: the tool was prepared before they were there
        return ToolInputDelta(0, '{"what": "rows"}')

    provider = ScriptedProvider(answer(calls(0, "fetch", arguments), stop="tool_use"), answer(says("Fine.")))
    async with world_of(tmp_path, provider, fetch) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
    assert results(blocks) == [("call-0", "rows connected for local, call-0", False)]


@pytest.mark.requirement("G2", "G3")
@pytest.mark.parametrize("kind", ["raises", "hangs", "takes nothing", "exits", "blocks"])
async def test_a_tool_whose_preparing_fails_runs_without(tmp_path: Path, kind: str) -> None:
    release = threading.Event()

    async def fails(_context: ToolContext) -> None:
        if kind == "hangs":
            await asyncio.Event().wait()
        if kind == "exits":
            raise SystemExit(1)
        raise LookupError("no connection")

    prepare: Any = {"takes nothing": lambda: 1, "blocks": lambda _context: release.wait(SECONDS)}.get(
        kind, fails
    )

    @tool(prepare=prepare, timeout=0.05)
    async def fetch(context: ToolContext) -> str:
        """Fetch it."""
        return f"without: {context.prepared}"

    provider = ScriptedProvider(answer(calls(0, "fetch"), stop="tool_use"), answer(says("Fine.")))
    try:
        async with world_of(tmp_path, provider, fetch) as world:
            turn_id = (await world.ask("go")).assistant_turn.id
            assert results(await blocks_of(world, turn_id)) == [("call-0", "without: None", False)]
            assert (await world.state(turn_id)).turn.status == "complete"
    finally:
        release.set()


@pytest.mark.requirement("G2", "D6")
@pytest.mark.parametrize("kind", ["cut arguments", "refused", "interrupted"])
async def test_preparing_for_a_call_that_never_comes_is_cancelled(tmp_path: Path, kind: str) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    async def connect(_context: ToolContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @tool(prepare=connect)
    async def fetch(what: str) -> None:
        """Fetch it."""
        ran.append(what)

    async def arguments() -> StreamEvent:
        await begun.wait()
        if kind == "interrupted":
            await asyncio.Event().wait()
        return ToolInputDelta(0, '{"what": "ro' if kind == "cut arguments" else '{"what": "rows"}')

    stop: StopReason = "refusal" if kind == "refused" else "tool_use"
    provider = ScriptedProvider(answer(calls(0, "fetch", arguments), stop=stop), answer(says("Fine.")))
    async with world_of(tmp_path, provider, fetch) as world:
        executor = await _started(world)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
            if kind == "interrupted":
                executor.stop("cancelled")
            await cancelled.wait()
        await world.ended(executor.turn.id)
    assert not ran


@pytest.mark.requirement("G2")
async def test_no_more_calls_run_at_once_than_the_limit_says(tmp_path: Path) -> None:
    running = most = 0
    both = asyncio.Event()

    async def busy() -> str:
        """Take a place."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            both.set()
        await both.wait()
        running -= 1
        return "ok"

    many = [calls(index, "busy") for index in range(6)]
    provider = ScriptedProvider(answer(*many, stop="tool_use"), answer(says("Ok.")))
    async with world_of(tmp_path, provider, busy, parallel=2) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
        assert [result[0] for result in results(blocks)] == [f"call-{index}" for index in range(6)]
        assert most == 2


@pytest.mark.requirement("B4", "G3")
@pytest.mark.parametrize("stop", ["tool_use", "max_tokens", None])
async def test_arguments_cut_anywhere_are_run_only_when_they_are_whole(
    tmp_path: Path, stop: StopReason | None
) -> None:
    arguments = '{"path": "a\\u00e9", "depth": 2}'
    ran: list[tuple[str, int]] = []

    def remove(path: str, depth: int) -> str:
        """Do what must not be done by mistake."""
        ran.append((path, depth))
        return "removed"

    provider = ScriptedProvider(answer(says("-")))
    async with world_of(tmp_path, provider, remove) as world:
        for end in range(len(arguments) + 1):
            for is_stopped in (True, False):
                ran.clear()
                cut = calls(0, "remove", arguments[:end])[: None if is_stopped else -1]
                provider.asked.clear()
                provider._answers[:] = [answer(cut, stop=stop), answer(says("Then."))]
                turn_id = (await world.ask("go")).assistant_turn.id
                state = await world.ended(turn_id)
                whole = end == len(arguments) and stop is not None
                assert ran == ([("aé", 2)] if whole else []), (end, is_stopped)
                if stop is None:
                    assert (state.turn.status, state.turn.error_code) == ("error", StreamIncomplete.code)
                else:
                    assert state.turn.status == "complete"
                    (result,) = results([row.block for row in state.blocks])
                    assert result[2] is not whole


@pytest.mark.requirement("G6")
async def test_a_tool_of_the_client_ends_the_turn_and_its_result_comes_with_the_next(tmp_path: Path) -> None:
    def ours() -> str:
        """Run here."""
        return "here"

    theirs = ToolDefinition("theirs", "Run in the client.", {"type": "object"})
    provider = ScriptedProvider(
        answer(calls(0, "ours"), calls(1, "theirs"), stop="tool_use"), answer(says("Both."))
    )
    async with world_of(tmp_path, provider, ours) as world:
        started = await world.ask("go", tools=("ours", theirs))
        turn = started.assistant_turn
        blocks = await blocks_of(world, turn.id)
        assert results(blocks) == [("call-0", "here", False)]
        state = await world.state(turn.id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "tool_use")
        result = Block(0, "tool_result", None, {"tool_use_id": "call-1", "content": "there"})
        request = TurnRequest(
            chat_id=turn.chat_id, prev_turn_id=turn.id, blocks=(result,), tools=("ours", theirs)
        )
        answered = await world.commands.send(OWNER, request)
        assert (await world.ended(answered.assistant_turn.id)).turn.status == "complete"
        told = [
            ((block.content or {})["tool_use_id"], (block.content or {})["content"])
            for block in provider.asked[-1].messages[-1].blocks
        ]
        assert told == [("call-0", "here"), ("call-1", "there")]


@pytest.mark.requirement("G5", "A4")
async def test_an_interrupt_gives_pending_calls_a_result_and_stops_their_functions(tmp_path: Path) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    def quick() -> str:
        """End at once."""
        return "quick"

    async def endless() -> str:
        """Never end."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    provider = ScriptedProvider(
        answer(calls(0, "quick"), calls(1, "endless"), calls(2, "endless"), stop="tool_use"),
        answer(says("On.")),
    )
    async with world_of(tmp_path, provider, quick, endless) as world:
        executor = await _started(world)
        await logged(executor, lambda _log: executor.blocks_completed == 4)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
            state = await world.commands.interrupt(OWNER, executor.turn.id)
        assert stopped.is_set()
        assert state.turn.status == "cancelled"
        blocks = [row.block for row in await world.stored(executor.turn.id)]
        assert results(blocks) == [
            ("call-0", "quick", False),
            ("call-1", "cancelled", True),
            ("call-2", "cancelled", True),
        ]
        client = await world.watched(executor.turn.id)
        assert client.now.blocks == blocks
        following = await world.ask("go on", chat_id=state.turn.chat_id, prev_turn_id=state.turn.id)
        assert (await world.ended(following.assistant_turn.id)).turn.status == "complete"


@pytest.mark.requirement("G5", "P4")
async def test_a_crash_within_a_tool_leaves_a_history_that_goes_on(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> str:
        """Never end."""
        begun.set()
        await asyncio.Event().wait()
        return "never"

    provider = ScriptedProvider(
        answer(says("Now."), calls(1, "endless"), stop="tool_use"), answer(says("On."))
    )
    async with world_of(tmp_path, provider, endless) as world:
        executor = await _started(world)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        turn = executor.turn
        await world.crash()
    async with world_of(tmp_path, provider, endless) as world:
        state = await world.state(turn.id)
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert results([row.block for row in state.blocks]) == [("call-1", CANCELLED_BY_ERROR, True)]
        client = await world.watched(turn.id)
        assert client.now.blocks == [row.block for row in state.blocks]
        following = await world.ask("go on", chat_id=turn.chat_id, prev_turn_id=turn.id)
        assert (await world.ended(following.assistant_turn.id)).turn.status == "complete"
        blocks = provider.asked[-1].messages[-1].blocks
        assert (blocks[0].content or {})["is_error"] is True


@pytest.mark.requirement("D5")
async def test_a_tool_is_not_silence(tmp_path: Path) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def long() -> str:
        """Take longer than a turn may be silent."""
        begun.set()
        await release.wait()
        return "at last"

    provider = ScriptedProvider(answer(calls(0, "long"), stop="tool_use"), answer(says("Yes.")))
    async with world_of(tmp_path, provider, long) as world:
        executor = await _started(world)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        await world.registry.sweep(asyncio.get_running_loop().time() + 10_000)
        release.set()
        assert (await world.ended(executor.turn.id)).turn.status == "complete"


@pytest.mark.requirement("E3")
@pytest.mark.parametrize("reason", ["refusal", "content_filtered", "guardrail_intervened"])
async def test_what_a_broken_off_answer_called_is_not_run(tmp_path: Path, reason: StopReason) -> None:
    ran: list[int] = []

    def act() -> None:
        """Act."""
        ran.append(1)

    provider = ScriptedProvider(answer(calls(0, "act"), stop=reason), answer(says("Yes.")))
    async with world_of(tmp_path, provider, act) as world:
        state = await world.ended((await world.ask("go")).assistant_turn.id)
        assert (state.turn.status, state.turn.stop_reason, ran) == ("complete", reason, [])


@pytest.mark.requirement("E3")
async def test_a_paused_turn_is_taken_up_again(tmp_path: Path) -> None:
    provider = ScriptedProvider(answer(says("Searching"), stop="pause_turn"), answer(says(" found.")))
    async with world_of(tmp_path, provider) as world:
        state = await world.ended((await world.ask("go")).assistant_turn.id)
        assert [row.block.text_content for row in state.blocks] == ["Searching", " found."]
        assert provider.asked[1].messages[-1].role == "assistant"


@pytest.mark.parametrize(
    ("tools", "code"),
    [(("unheard-of",), "unknown_tool"), ((ToolDefinition("a"), ToolDefinition("a")), "duplicate_tool")],
)
async def test_tools_that_cannot_be_given_are_refused(tmp_path: Path, tools: Any, code: str) -> None:
    async with world_of(tmp_path, ScriptedProvider(answer(says("-")))) as world:
        with pytest.raises(Exception, match="tool") as refused:
            await world.ask("go", tools=tools)
        assert refused.value.code == code  # type: ignore[attr-defined]


@pytest.mark.requirement("O2")
async def test_a_turn_keeps_nothing_of_what_is_stored(tmp_path: Path) -> None:
    """The next call reads it again: so memory does not grow with the answer."""
    half = "x" * 10_000
    block = [ContentBlockStart(0, "text"), TextDelta(0, half), TextDelta(0, half), ContentBlockStop(0)]
    provider = ScriptedProvider(
        answer(*[block] * 200, calls(1, "unheard-of"), stop="tool_use"), answer(says("-"))
    )
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, provider) as world:
        world.store.writes = deque(maxlen=0)  # type: ignore[assignment]  # else the test's own store keeps them
        tracemalloc.start()
        try:
            executor = await _started(world)
            before, _ = tracemalloc.get_traced_memory()
            await logged(executor, lambda _log: executor.blocks_completed == 201)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 1_000_000, "4 MB have been stored"
        provider.hold.set()
        assert (await world.ended(executor.turn.id)).turn.status == "complete"
        told = provider.asked[1].messages[1].blocks
        assert sum(len(block.text_content or "") for block in told) == 200 * 20_000


@pytest.mark.requirement("G4", "O2")
async def test_progress_that_comes_too_fast_is_shown_together(tmp_path: Path) -> None:
    async def flood(context: ToolContext) -> str:
        """Tell more than anyone can read, without a pause."""
        for number in range(100_000):
            context.progress(f"{number} ")
        return "done"

    provider = ScriptedProvider(answer(calls(0, "flood"), stop="tool_use"), answer(says("Good.")))
    async with world_of(tmp_path, provider, flood) as world:
        executor = await _started(world)
        subscription = await world.watch(executor.turn.id, str(Cursor(executor.turn.generation, 0)))
        shown = b""
        async with asyncio.timeout(SECONDS):
            while (data := await subscription.next()) is not None:
                shown += data
        assert shown.count(b"event: tool_progress") == 1
        assert b"99999 " in shown
        assert b" 99000 " not in shown
