"""Where a turn's content comes from: our own model loop, or anyone's event stream (requirement F7)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeAlias

from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import Data, Notice, Source, StepStart, StepStop, ToolProgress
from turnstream.providers.base import Provider
from turnstream.wires.base import ModelRequest

SourceEvent: TypeAlias = StreamEvent | Data | Notice | Source | StepStart | StepStop | ToolProgress
Batches: TypeAlias = AsyncIterator[Sequence[SourceEvent]]


class TurnSource(Protocol):
    """A seam: what an executor reads.

    `needs_end_marker`: a step whose stream ends without a MessageStop is incomplete, and fails (D6).
    """

    needs_end_marker: bool

    def step(self, number: int) -> AbstractAsyncContextManager[Batches] | None:
        """The stream of the turn's step `number`, from 0; None when the turn is complete."""
        ...


class ModelSource:
    """One model call."""

    needs_end_marker = True

    def __init__(self, provider: Provider, request: ModelRequest) -> None:
        self._provider = provider
        self._request = request

    def step(self, number: int) -> AbstractAsyncContextManager[Batches] | None:
        return self._provider.stream(self._request) if number == 0 else None


class ForeignSource:
    """Any async iterator of events, or of lists of them. Its normal end is the turn's success; its exception is
    the turn's error; it is closed when the turn ends early."""

    needs_end_marker = False

    def __init__(self, events: AsyncIterator[SourceEvent | Sequence[SourceEvent]]) -> None:
        self._events = events

    def step(self, number: int) -> AbstractAsyncContextManager[Batches] | None:
        return self._open() if number == 0 else None

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[Batches, None]:
        try:
            yield _Batching(self._events)
        finally:
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()


class _Batching:
    """Single events as batches of one."""

    def __init__(self, events: AsyncIterator[SourceEvent | Sequence[SourceEvent]]) -> None:
        self._events = events

    def __aiter__(self) -> _Batching:
        return self

    async def __anext__(self) -> Sequence[SourceEvent]:
        item = await anext(self._events)
        return item if isinstance(item, list | tuple) else (item,)  # type: ignore[return-value]
