"""Where a turn's content comes from: our own model loop, or anyone's event stream (requirement F7)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeAlias, cast

import msgspec

from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta
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
        item: object = await anext(self._events)
        given = cast("Sequence[object]", item) if isinstance(item, list | tuple) else (item,)
        return [_checked(event) for event in given]


def _checked(event: object) -> SourceEvent:
    """The event, surely one that can be shown and stored: whoever wrote the source, a wrong type in it must not come
    to light in a watcher's stream. Raises TypeError."""
    if isinstance(event, TextDelta | ThinkingDelta) and type(event.text) is str:
        return event
    try:
        plain = msgspec.to_builtins(event, builtin_types=(bytes,))
        checked = msgspec.convert(plain if isinstance(event, msgspec.Struct) else None, SourceEvent)
        msgspec.json.encode(checked)
    except (TypeError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise TypeError(
            f"the source gave a {type(event).__name__} that cannot be an event: {error}"
        ) from error
    return checked
