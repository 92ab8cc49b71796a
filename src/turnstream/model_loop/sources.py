"""Where a turn's content comes from: our own model loop, or anyone's event stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.admission import admitted
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    MessageStop,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import Notice, SourceEvent, ToolProgress
from turnstream.errors import ProviderError
from turnstream.providers.base import CalledModel

Batches: TypeAlias = AsyncIterator[Sequence[SourceEvent]]
Stream: TypeAlias = AbstractAsyncContextManager[Batches]
Show: TypeAlias = Callable[[ToolProgress | Notice], None]


class StepFailure(NamedTuple):
    """A step's call that failed. `first`: the sequence that the step's first block has, or would have; `shown`: how many
    blocks have begun since; `open_block`: the last of them as far as it has come, if it is being written."""

    failure: ProviderError
    first: int
    shown: int = 0
    open_block: Block | None = None


class StepRecovery(NamedTuple):
    """What is done about a call that failed: `notice` is told, `pause` awaited, and `stream` read in its place.

    That one goes on where the other broke off: blocks that were begun stay as they are (see `Accumulator.resume`), until
    its BlockReset, if it has one, takes some back.
    """

    stream: Stream
    notice: Notice
    pause: Callable[[], Awaitable[None]]


class TurnSource:
    """A seam: what an executor reads. A turn is a row of steps; each is a stream, and may be followed by another with the
    results of the tools that it called.

        begin ─► step(0) ─► stored(block) … ─► results ─► step(1) ─► … ─► step(n) is None ─► close
                   └─ its stream fails ─► recover ─► another stream for the same step
    """

    needs_end_marker = False
    """A step whose stream ends without a MessageStop is incomplete, and fails."""
    stop_reason: str | None = None
    """Why the turn is complete, where the last step's own reason does not say it."""

    @property
    def called(self) -> CalledModel | None:
        """The model that is called; None where what the steps use has no price here."""
        return None

    def begin(self, show: Show) -> None:
        """`show` shows watchers a passing event, at any time until `close`."""

    def step(self, number: int) -> Stream | None:
        """The stream of the turn's step `number`, from 0; None when the turn is complete."""
        raise NotImplementedError

    async def recover(self, broken: StepFailure) -> StepRecovery:
        """What to do now that the step's stream has failed. Raises the failure where nothing can be done."""
        raise broken.failure

    def estimated_input(self) -> int:
        """The tokens of the step's request, by its size."""
        return 0

    def stored(self, block: Block) -> None:
        """A block of the step has been stopped and stored."""

    def taken_back(self, sequence: int) -> None:
        """Blocks from `sequence` on, stored or not, are no more."""

    def results(self, stop: MessageStop | None) -> Stream | None:
        """What follows the step, whose end was `stop`; None for nothing."""
        del stop
        return None

    def unanswered(self) -> Sequence[Block]:
        """Stored calls of tools that have no result yet. A turn that ends early gives them one."""
        return ()

    async def close(self) -> None:
        """Let go of everything. The turn is at its end, whatever end that is."""


class ForeignSource(TurnSource):
    """Any async iterator of events, or of lists of them. Its normal end is the turn's success; its exception is
    the turn's error; it is closed when the turn ends early."""

    def __init__(self, events: AsyncIterator[SourceEvent | Sequence[SourceEvent]]) -> None:
        self._events = events
        self._is_open = False

    def step(self, number: int) -> Stream | None:
        return self._open() if number == 0 else None

    async def close(self) -> None:
        """Close the iterator if it was never read."""
        if not self._is_open:
            await self._close_events()

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[Batches, None]:
        self._is_open = True
        try:
            yield _Batching(self._events)
        finally:
            await self._close_events()

    async def _close_events(self) -> None:
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
    """Return the event if it can be shown and stored. A wrong type in it must not come to light in a watcher's stream.

    Raises TypeError.
    """
    if isinstance(event, TextDelta | ThinkingDelta) and type(event.text) is str and type(event.index) is int:
        return event  # halves of surrogate pairs are joined where the text grows
    if isinstance(event, ToolInputDelta) and type(event.partial_json) is str and type(event.index) is int:
        return event
    return _checked_any(event)


def _checked_any(event: object) -> SourceEvent:
    """Return the event as `_checked` does, whatever its kind."""
    try:
        plain = msgspec.to_builtins(event, builtin_types=(bytes,))
        checked = msgspec.convert(plain if isinstance(event, msgspec.Struct) else None, SourceEvent)
        if not isinstance(checked, SignatureDelta):  # which would no longer be one
            checked = admitted(checked)
        msgspec.json.encode(checked)
    except (TypeError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise TypeError(
            f"the source gave a {type(event).__name__} that cannot be an event: {error}"
        ) from error
    return checked
