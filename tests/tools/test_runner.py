"""One call: the model gets every outcome of a tool, and the turn continues (requirements G3, B4)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from turnstream.core.blocks import Block
from turnstream.core.tool_input import finish_tool_use
from turnstream.tools import Tool, ToolContext, ToolError, ToolLimits, ToolOutput, ToolRunner, tool
from turnstream.tools import runner as runner_module
from turnstream.tools.base import by_name
from turnstream.tools.builtin import calculator, clock

SECONDS = 10.0


def call(name: str, arguments: str = "{}", *, partial: bool = False) -> Block:
    content = finish_tool_use({"tool_use_id": "call-1", "tool_name": name}, arguments)
    return Block(0, "tool_use", None, content, partial)


async def run(runner: ToolRunner, block: Block, shown: list[str] | None = None) -> ToolOutput:
    show = (shown if shown is not None else []).append
    context = ToolContext("call-1", "turn-1", "alice", {"plan": "free"}, lambda _id, text: show(text))
    async with asyncio.timeout(SECONDS):
        return await runner.run(block, context, offered=list(runner.tools))


def of(*functions: Any, **options: Any) -> ToolRunner:
    limits = ToolLimits(**options.pop("limits", {}))
    return ToolRunner(by_name(functions), limits, **options)


@pytest.mark.requirement("G3")
async def test_results_are_text_or_json() -> None:
    async def row(number: int) -> dict[str, Any]:
        """Read a row."""
        return {"number": number, "names": ["a", "b"]}

    def nothing() -> None:
        """Do nothing."""

    runner = of(row, nothing)
    assert await run(runner, call("row", '{"number": 7}')) == ToolOutput('{"number":7,"names":["a","b"]}')
    assert await run(runner, call("nothing")) == ToolOutput("")


@pytest.mark.requirement("G3", "B4")
@pytest.mark.parametrize(
    ("block", "words"),
    [
        (call("unheard-of"), "there is no tool called unheard-of; there are: touch"),
        (call(""), "the call named no tool, and nothing was run; there are: touch"),
        (call("touch", '{"x": 1'), "the arguments cannot be read, and nothing was run: not valid JSON"),
        (call("touch", "[1]"), "nothing was run: the arguments are not a JSON object"),
        (call("touch", '{"x": 1}', partial=True), "the call was cut off, and nothing was run"),
        (call("touch", '{"x": "y"}'), "the arguments are not valid, and the tool was not run: x: "),
        (call("touch", "{}"), "the arguments are not valid, and the tool was not run: x: Field required"),
    ],
)
async def test_what_cannot_be_run_is_told_and_not_run(block: Block, words: str) -> None:
    touched: list[int] = []

    def touch(x: int) -> None:
        """Touch it."""
        touched.append(x)

    output = await run(of(touch), block)
    assert output.is_error
    assert words in output.text
    assert not touched


@pytest.mark.requirement("G3", "K3")
async def test_an_exception_is_told_without_its_words_unless_they_are_meant() -> None:
    def secretive() -> None:
        """Fail with a secret."""
        raise KeyError("password=hunter2")

    def frank() -> None:
        """Fail, and say why."""
        raise ToolError("the city is not known: give another")

    runner = of(secretive, frank)
    assert await run(runner, call("secretive")) == ToolOutput("the tool failed (KeyError)", is_error=True)
    assert await run(runner, call("frank")) == ToolOutput(
        "the city is not known: give another", is_error=True
    )
    told = await run(of(secretive, debug=True), call("secretive"))
    assert "hunter2" in told.text


@pytest.mark.requirement("G3", "F1")
async def test_a_plain_function_may_return_what_has_to_be_awaited() -> None:
    async def add(number: int, more: int, context: ToolContext) -> int:
        """Add."""
        return number + more + len(context.owner)

    bound = functools.partial(add, more=2)
    assert Tool.of(bound).definition.input_schema["properties"] == {"number": {"type": "integer"}}
    assert await run(of(bound), call("add", '{"number": 5}')) == ToolOutput("12")
    again = tool(name="again")(lambda: add(1, 2, ToolContext("", "", "", {}, print)))
    assert await run(of(again), call("again")) == ToolOutput("3")
    limited = functools.partial(tool(timeout=3)(add), 1)
    assert Tool.of(limited).timeout == 3
    assert Tool.of(tool(name="mine")(limited)).timeout is None, "the outer decorator counts"


@pytest.mark.requirement("G3")
async def test_a_coroutine_that_comes_too_late_is_closed() -> None:
    release, began = threading.Event(), threading.Event()
    coroutines: list[Coroutine[Any, Any, None]] = []

    async def inner() -> None:
        """Never begins."""

    def late() -> Any:
        """Return a coroutine after the caller has stopped waiting."""
        began.set()
        release.wait(SECONDS)
        coroutines.append(inner())
        return coroutines[0]

    output = await run(of(late, limits={"timeout": 0.05}), call("late"))
    assert output.is_error
    assert began.is_set()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "tool late"]
    release.set()
    await asyncio.to_thread(thread.join, SECONDS)
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(coroutines[0]) == inspect.CORO_CLOSED


@pytest.mark.requirement("G3")
async def test_a_tool_that_takes_too_long_is_stopped_and_told_so() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        """Never end."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    release = threading.Event()

    def blocking() -> None:
        """Block a thread."""
        release.wait(SECONDS)

    runner = of(slow, blocking, limits={"timeout": 0.05})
    try:
        for name in ("slow", "blocking"):
            output = await run(runner, call(name))
            assert output == ToolOutput(
                "the tool did not finish within 0.05 s, and was stopped", is_error=True
            )
    finally:
        release.set()
    assert ended.is_set()


async def test_a_tool_that_will_not_be_cancelled_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "STOP_SECONDS", 0.05)
    release = asyncio.Event()

    async def stubborn() -> None:
        """Refuse to end."""
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    output = await run(of(stubborn, limits={"timeout": 0.05}), call("stubborn"))
    assert output.is_error
    release.set()


async def test_results_and_progress_are_bounded() -> None:
    def talkative(context: ToolContext) -> str:
        """Talk."""
        context.progress("p" * 100_000)
        return "r" * (runner_module.RESULT_LIMIT + 5)

    shown: list[str] = []
    output = await run(of(talkative), call("talkative"), shown)
    assert output.text.endswith("… (5 more characters were cut off)")
    assert [len(text) for text in shown] == [4096]


async def test_a_value_that_is_no_json_is_an_error_of_the_tool() -> None:
    def odd() -> object:
        """Return what cannot be told."""
        return object()

    assert await run(of(odd), call("odd")) == ToolOutput("the tool failed (TypeError)", is_error=True)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", "14"),
        ("(1 + 2) / 4", "0.75"),
        ("-2 ** 10", "-1024"),
        ("sqrt(16) + min(3, 2)", "6.0"),
        ("7 // 2 + 7 % 2", "4"),
    ],
)
async def test_the_calculator_calculates(expression: str, value: str) -> None:
    content = {"tool_use_id": "1", "tool_name": "calculator", "input": {"expression": expression}}
    assert await run(of(calculator), Block(0, "tool_use", None, content)) == ToolOutput(value)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "__import__('os')",
        "1 +",
        "x",
        "(-1) ** 0.5",
        "1 / 0",
        "(" * 300,
        "'a' * 3",
        "10.0 ** 400",
        "True + 1",
    ],
)
async def test_the_calculator_refuses_what_is_no_arithmetic(expression: str) -> None:
    content = {"tool_use_id": "1", "tool_name": "calculator", "input": {"expression": expression}}
    output = await run(of(calculator), Block(0, "tool_use", None, content))
    assert output.is_error
    assert "cannot work out" in output.text
    assert "<unknown>" not in output.text


async def test_the_clock_knows_time_zones() -> None:
    assert (await run(of(clock), call("clock", '{"time_zone": "Europe/Vienna"}'))).text.count(":") >= 2
    assert (await run(of(clock), call("clock", '{"time_zone": "../etc/passwd"}'))).is_error


@pytest.mark.requirement("G3")
@pytest.mark.parametrize("name", ["leaving", "leaving_thread", "interrupting_thread"])
async def test_a_tool_that_exits_fails_and_the_process_lives_on(name: str) -> None:
    async def leaving() -> None:
        """Exit."""
        raise SystemExit(3)

    def leaving_thread() -> None:
        """Exit."""
        raise SystemExit(3)

    def interrupting_thread() -> None:
        """Interrupt."""
        raise KeyboardInterrupt

    output = await run(of(leaving, leaving_thread, interrupting_thread), call(name))
    assert output.is_error
    assert output.text.startswith("the tool failed (")
