"""Preparing tools while the model still writes their arguments.

a call's block starts in the model's stream ─► `prepare` runs ─► the call runs, and waits for the preparation
                                                         └─► the call will not run: cancelled
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from turnstream.core.stream_events import ContentBlockStart
from turnstream.core.tool_results import ToolCallName
from turnstream.core.turn_events import SourceEvent
from turnstream.model_loop.sources import Batches, Stream
from turnstream.tools.base import ToolContext
from turnstream.tools.runner import ToolRunner


class Preparations:
    """The preparations of one turn's tools, by call id. They run in parallel, within the limit of calls.

    Args:
        context_of: Makes the context of a call, by its id.
    """

    def __init__(
        self, runner: ToolRunner, offered: Collection[str], context_of: Callable[[str], ToolContext]
    ) -> None:
        self._runner = runner
        self._prepared = frozenset(name for name in offered if runner.prepares(name))
        self._wanted = frozenset(name for name in self._prepared if not runner.asks(name))
        """Tools that are prepared before their call is complete. A tool that asks is prepared later."""
        self._context_of = context_of
        self._places = asyncio.Semaphore(runner.limits.parallel)
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._dropped: set[asyncio.Task[Any]] = set()

    def watched(self, stream: Stream) -> Stream:
        """Return `stream` wrapped to see the starts of calls, or `stream` itself if no tool prepares."""
        return _watched_stream(stream, self._see) if self._wanted else stream

    def begin(self, call: ToolCallName) -> None:
        """Begin to prepare a call that runs now, if its tool is prepared only after an approval."""
        if call.tool_name in self._prepared - self._wanted:
            self._start(call.tool_name, call.tool_use_id)

    async def context(self, identity: str) -> ToolContext:
        """Return the context to run a call with, after its preparation has ended."""
        context = self._context_of(identity)
        if (task := self._running.pop(identity, None)) is not None:
            try:
                context.prepared = await task
            finally:
                self._drop(task)
        return context

    def keep(self, identities: Collection[str]) -> None:
        """Cancel all preparations except those of the given calls. The step has ended."""
        for identity in self._running.keys() - set(identities):
            self._drop(self._running.pop(identity))

    async def close(self) -> None:
        """Cancel all preparations, and wait until they have ended."""
        self.keep(())
        if self._dropped:
            await asyncio.wait(self._dropped)

    def _see(self, events: Sequence[SourceEvent]) -> None:
        for event in events:
            if type(event) is ContentBlockStart and event.block_type == "tool_use":
                content = event.content or {}
                identity, name = content.get("tool_use_id"), content.get("tool_name")
                if identity and name in self._wanted and identity not in self._running:
                    self._start(name, identity)

    def _start(self, name: str, identity: str) -> None:
        self._running[identity] = asyncio.get_running_loop().create_task(
            self._prepare(name, identity), name=f"preparing {name}"
        )

    async def _prepare(self, name: str, identity: str) -> Any:
        async with self._places:
            return await self._runner.prepare(name, self._context_of(identity))

    def _drop(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            task.cancel()
            self._dropped.add(task)
            task.add_done_callback(self._dropped.discard)


@asynccontextmanager
async def _watched_stream(
    stream: Stream, see: Callable[[Sequence[SourceEvent]], None]
) -> AsyncGenerator[Batches]:
    """Enter a model's stream. Its batches are given to `see` before they are folded."""
    async with stream as batches:
        yield _SeenCall(batches, see)


class _SeenCall:
    """The batches of a watched stream."""

    def __init__(self, batches: Batches, see: Callable[[Sequence[SourceEvent]], None]) -> None:
        self._batches = batches
        self._see = see

    def __aiter__(self) -> _SeenCall:
        return self

    async def __anext__(self) -> Sequence[SourceEvent]:
        events = await anext(self._batches)
        self._see(events)
        return events
