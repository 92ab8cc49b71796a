"""A provider that answers by a script, and turns that call tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from tests.turns.world import World
from turnstream.core.blocks import Block
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
from turnstream.providers.catalog import Catalog
from turnstream.tools import ToolLimits, ToolRunner
from turnstream.tools.base import by_name
from turnstream.turns.executor import Executor
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

Late: TypeAlias = Callable[[], Awaitable[StreamEvent]]
Answer: TypeAlias = Sequence[StreamEvent | Late]


class ScriptedProvider:
    """Answers each call with the next part of the script, and records the requests."""

    def __init__(self, *answers: Answer | Callable[[], Answer]) -> None:
        self.name = "scripted"
        self.wire = WIRES["anthropic"]
        self.asked: list[ModelRequest] = []
        self.hold: asyncio.Event | None = None
        """Event for which the end marker of an answer waits, or None."""
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
        """The provider keeps nothing open."""


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
        use(world.catalog, provider)
        yield world


def use(catalog: Catalog, provider: ScriptedProvider) -> None:
    catalog.resolve = lambda _name, _keys=None: (provider, "m")  # type: ignore[method-assign,assignment]


def results(blocks: Sequence[Block]) -> list[tuple[str, Any, bool]]:
    """Return, for each tool_result, its call, its text, and whether it is an error."""
    found = [block.content or {} for block in blocks if block.block_type == "tool_result"]
    return [(content["tool_use_id"], content["content"], content["is_error"]) for content in found]


async def blocks_of(world: World, turn_id: str) -> list[Block]:
    return [row.block for row in (await world.ended(turn_id)).blocks]


async def started(world: World, **options: Any) -> Executor:
    started = await world.ask("go", **options)
    return world.executor(started.assistant_turn.id)
