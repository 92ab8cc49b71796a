"""The sources of a turn's content: the model loop, or any stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.admission import plain_json
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    MessageStop,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import Notice, SourceEvent, StepStart, ToolProgress
from turnstream.errors import ProviderError
from turnstream.model_loop.model_call import ModelCall
from turnstream.providers.base import CalledModel
from turnstream.providers.joining import RepetitionJoint, joined
from turnstream.wires.base import StoredAnswer

Batches: TypeAlias = AsyncIterator[Sequence[SourceEvent]]
Stream: TypeAlias = AbstractAsyncContextManager[Batches]
Show: TypeAlias = Callable[[ToolProgress | Notice], None]
Book: TypeAlias = Callable[[str, Sequence[ModelCall]], None]
Continuation: TypeAlias = Literal["answer", "text"]
"""Ways to continue a begun step: read the answer that its provider stores, or call a model with its text."""


class StepFailure(NamedTuple):
    """A call of a step that failed.

    Attributes:
        first: Sequence of the step's first block, even if the block has not begun.
        shown: Number of the step's blocks that have begun.
        open_block: The last begun block, as far as it is written. None if it is not open.
    """

    failure: ProviderError
    first: int
    shown: int = 0
    open_block: Block | None = None


class StepRecovery(NamedTuple):
    """The replacement for a failed call.

    The new stream continues the failed one. Blocks that have begun stay as they are (see
    `Accumulator.resume`), unless the stream retracts them with a BlockReset.

    Attributes:
        stream: The stream. See `without_repetition`.
        notice: Notice for watchers.
        pause: Awaited before the stream is read.
        repeated: Shown blocks that the stream repeats first.
        reads_again: True if the stream is the answer of the failed call again, which its provider stores.
    """

    stream: Stream
    notice: Notice
    pause: Callable[[], Awaitable[None]]
    repeated: Sequence[Block] = ()
    reads_again: bool = False

    def without_repetition(self, failure: ProviderError) -> Stream:
        """Return the stream to read, without the shown blocks. `failure`: the failure of the failed call."""
        if not self.repeated:
            return self.stream
        return joined(self.stream, RepetitionJoint(self.repeated, retryable=failure.retryable))


class PendingApproval(NamedTuple):
    """A stored tool call that runs only after an approval.

    Attributes:
        seconds: Seconds that the approval may take.
    """

    call: Block
    seconds: float


class TurnSource:
    """A seam: the content of a turn, read by an executor.

    A turn is a series of steps. Each step is a stream, and may be followed by a stream of its tools' results.

        begin ─► prepare ─► step(0) ─► stored(block) … ─► results ─► step(1) ─► … ─► step(n) is None ─► close
                   └─ its stream fails ─► recover ─► another stream for the same step
    """

    needs_end_marker = False
    """True if a step whose stream ends without a MessageStop is incomplete, and fails."""
    needs_preparation = False
    """True if `prepare` must be awaited before the first step."""
    stop_reason: str | None = None
    """The turn's stop reason. None: the stop reason of the last step."""

    @property
    def called(self) -> CalledModel | None:
        """The model that is called.

        None if the source calls no model of the catalog: its usage has no price.
        """
        return None

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """Headers of the last answer of a provider."""
        return {}

    def begin(self, show: Show) -> None:
        """Take the function that shows a transient event to watchers. It may be called until `close`."""

    def book_with(self, book: Book) -> None:
        """Take the function that adds a model call to the turn's account (`TurnAccount.book`).

        A source that reads a model's stream itself calls it for each model call.
        """

    async def prepare(self) -> Notice | None:
        """Prepare the steps, and return a notice for watchers, or None. An error ends the turn."""

    def step(self, number: int) -> Stream | None:
        """Return the stream of a step, counted from 0, or None if the turn is complete."""
        raise NotImplementedError

    @property
    def answer_id(self) -> str | None:
        """Id of the running answer, if the provider stores it for other processes. None if it does not."""
        return None

    def continue_step(
        self, shown: Sequence[Block], answer: StoredAnswer | None = None
    ) -> Continuation | None:
        """Let the first step continue blocks that another process has shown. The last of them is still open.

        Called before the first step. Return None if the step must begin again. `answer`: the step's answer,
        if the provider stores it. Returns "answer" if the stream reads this answer from its beginning: then
        it repeats the shown blocks, and the reader skips them.
        """
        del shown, answer
        return None

    def step_start(self, number: int) -> StepStart:
        """Return the event that begins the step whose stream is open."""
        return StepStart(number)

    async def recover(self, broken: StepFailure) -> StepRecovery:
        """Return the replacement for the step's failed stream. Raises the failure if there is none."""
        raise broken.failure

    def estimated_input(self) -> int:
        """Return the estimated tokens of the step's request."""
        return 0

    def stored(self, block: Block) -> None:
        """Note that a block of the step has stopped and is stored."""

    def note_retracted(self, sequence: int) -> None:
        """Note that the blocks from `sequence` on, stored or not, are retracted."""

    def results(self, stop: MessageStop | None) -> Stream | None:
        """Return the stream of results that follows the step, or None. `stop` is the step's end marker."""
        del stop
        return None

    @property
    def pending(self) -> Sequence[PendingApproval]:
        """Calls of the last step that wait for an approval, once the other calls have results.

        If there are any, the driver stops: the turn waits, and another source continues it.
        """
        return ()

    def unanswered(self) -> Sequence[Block]:
        """Return the stored tool calls that have no result yet. A turn that ends early gives them one."""
        return ()

    def give_up(self) -> None:
        """Stop the running answer at its provider, if it is stored there. Call it before `close`.

        Do not call it if another process continues the turn: that reads the answer.
        """

    async def close(self) -> None:
        """Release all resources. The turn has ended, in any way."""


class ForeignSource(TurnSource):
    """A source from any async iterator of events, or of lists of events.

    Its normal end completes the turn. Its exception is the turn's error. It is closed if the turn ends early.
    """

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
    """Yields single events as batches of one."""

    def __init__(self, events: AsyncIterator[SourceEvent | Sequence[SourceEvent]]) -> None:
        self._events = events

    def __aiter__(self) -> _Batching:
        return self

    async def __anext__(self) -> Sequence[SourceEvent]:
        item: object = await anext(self._events)
        given = cast("Sequence[object]", item) if isinstance(item, list | tuple) else (item,)
        return [checked_event(event) for event in given]


def checked_event(event: object) -> SourceEvent:
    """Return the event if it can be shown and stored. Raises TypeError if it cannot.

    Without this check a wrong type would only be noticed in a watcher's stream.
    """
    if isinstance(event, TextDelta | ThinkingDelta) and type(event.text) is str and type(event.index) is int:
        return event  # halves of surrogate pairs are joined when the text grows
    if isinstance(event, ToolInputDelta) and type(event.partial_json) is str and type(event.index) is int:
        return event
    return _checked_any(event)


def _checked_any(event: object) -> SourceEvent:
    """Return the event, of any kind, as `checked_event` does."""
    try:
        plain = msgspec.to_builtins(event, builtin_types=(bytes,))
        checked = msgspec.convert(plain if isinstance(event, msgspec.Struct) else None, SourceEvent)
        if not isinstance(checked, SignatureDelta):  # a signature must stay as it is
            checked = plain_json(checked)
        msgspec.json.encode(checked)
    except (TypeError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise TypeError(
            f"the source gave a {type(event).__name__} that cannot be an event: {error}"
        ) from error
    return checked
