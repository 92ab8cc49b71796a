"""Text and JSON that enter the library: half surrogates become U+FFFD, values of Python become JSON, and
deep nesting is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pydantic
import pytest

import turnstream as ts
from tests.llm.conftest import WIRES, llm_at
from turnstream.core.admission import NESTING_LIMIT
from turnstream.core.turn_events import ToolProgress
from turnstream.simulator.server import SimulatorServer

HALF = "half \ud83d"
MENDED = "half \ufffd"


def llm(model: str = "sim/tools:pace=0") -> ts.LLM:
    return ts.LLM(model, settings=ts.Settings())


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


async def sent_by(simulator: SimulatorServer, wire: str, **options: Any) -> str:
    """Return the body of a call's request, as text."""
    await llm_at(simulator.url, wire, "echo:pace=0").collect(**options)
    (request,) = simulator.log.newest()
    return bytes(request.body).decode()


@pytest.mark.fault(31)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "options",
    [
        {"prompt": HALF},
        {"prompt": [{"type": "text", "text": HALF}]},
        {"prompt": "x", "system": HALF},
        {"prompt": "x", "messages": [{"role": "user", "content": HALF}, {"role": "assistant", "content": "y"}]},
        {"prompt": "x", "messages": [{"role": "user", "content": "y"}, {"role": "assistant", "content": HALF}]},
        {"prompt": "x", "tools": [{"name": "f", "description": HALF}]},
    ],
    ids=["prompt", "part", "system", "user", "assistant", "tool"],
)  # fmt: skip
async def test_half_a_pair_reaches_no_provider(
    simulator: SimulatorServer, wire: str, options: dict[str, Any]
) -> None:
    body = await sent_by(simulator, wire, **options)
    assert MENDED in body
    assert "ud83d" not in body
    assert "\ud83d" not in body


@dataclasses.dataclass
class Found:
    name: str
    on: dt.date


class Shelf(pydantic.BaseModel):
    items: list[Found]
    where: PurePosixPath


RESULTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: HALF, MENDED),
    (lambda: {"k": [HALF]}, f'{{"k":["{MENDED}"]}}'),
    (
        lambda: [Shelf(items=[Found("x", dt.date(2020, 1, 2))], where=PurePosixPath("/a"))],
        '[{"items":[{"name":"x","on":"2020-01-02"}],"where":"/a"}]',
    ),
    (lambda: (Found(HALF, dt.date(2020, 1, 2)),), f'[{{"name":"{MENDED}","on":"2020-01-02"}}]'),
    (lambda: {"price": Decimal("1.5"), "tags": {"only"}}, '{"price":"1.5","tags":["only"]}'),
    (lambda: PurePosixPath("/a/b"), '"/a/b"'),
]


@pytest.mark.fault(31)
@pytest.mark.parametrize(("give", "told"), RESULTS, ids=range(len(RESULTS)))
async def test_a_tool_s_value_becomes_json(give: Callable[[], Any], told: str) -> None:
    def look(what: str) -> Any:
        return give()

    message = await llm().collect("go", tools=[look])
    assert f"The tools say: {told}" in message.text


@pytest.mark.fault(31)
async def test_errors_and_progress_of_tools_hold_no_halves() -> None:
    async def look(what: str, context: ts.ToolContext) -> str:
        context.progress(HALF)
        raise ts.ToolError(HALF)

    events: list[Any] = []
    async with llm().stream("go", tools=[look]) as stream:
        events.extend([event async for event in stream.events()])
        message = await stream.final_message()
    assert {event.text for event in events if isinstance(event, ToolProgress)} == {MENDED}
    assert MENDED in message.text


@pytest.mark.fault(31)
@pytest.mark.parametrize("content", [[Found("x", dt.date(2020, 1, 2))], {"s": {1}}, {"k": HALF}])
async def test_results_that_the_caller_gives_become_json(simulator: SimulatorServer, content: Any) -> None:
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": content},
    ]
    body = await sent_by(simulator, "anthropic", messages=messages)
    assert any(part in body for part in ("2020-01-02", '\\"s\\":[1]', '"s": [1]', MENDED))


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    "options",
    [
        {"params": {"extra": nested(NESTING_LIMIT)}},
        {"params": {"extra": nested(5000)}},
        {"tools": [{"name": "f", "input_schema": nested(NESTING_LIMIT + 1)}]},
        {"messages": [ts.Message("user", (ts.Block(0, "tool_result", None, {"content": nested(300)}),))]},
    ],
)
def test_what_nests_too_deeply_is_refused(options: Any) -> None:
    with pytest.raises(ts.InvalidRequest, match="deeper than 100"):
        llm().stream("go", **options)


@pytest.mark.fault(6)
@pytest.mark.parametrize("levels", [NESTING_LIMIT + 1, 3000])
async def test_a_tool_whose_value_nests_too_deeply_has_failed(levels: int) -> None:
    def look(what: str) -> Any:
        return nested(levels)

    message = await llm().collect("go", tools=[look])
    assert "the tool failed" in message.text
