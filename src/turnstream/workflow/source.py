"""A run of a workflow as the source of a turn: each stage is a named step.

step(n) ─► the next stage whose `when` holds ─► its events, batch by batch ─► done ─► the state is stored
             raises, ends without an end, takes too long, fails ─► the turn's error
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from time import time_ns
from types import TracebackType
from typing import Any, cast

import msgspec

from turnstream.core.admission import plain_json
from turnstream.core.stream_events import ContentBlockStop, TextDelta
from turnstream.core.turn_events import Data, SourceEvent, StepStart
from turnstream.errors import StageFailed
from turnstream.model_loop.sources import Book, Show, Stream, TurnSource, checked_event
from turnstream.turns.clock import iso_timestamp
from turnstream.workflow.events import ENDS, STATE, WorkflowEvent
from turnstream.workflow.stage import RunContext, Stage, StageOutput, StageParts, StageRun
from turnstream.workflow.state import MAX_STATE, WorkflowState

logger = logging.getLogger(__name__)


class WorkflowSource(TurnSource):
    """One run of a workflow.

    Args:
        stages: All stages. Those in `state.stages_done` have run before.
        state: The state, which the stages change.
        context: The turn, as tools see it.
    """

    def __init__(
        self, stages: Sequence[Stage], state: WorkflowState, parts: StageParts, context: RunContext
    ) -> None:
        self.stages = stages
        self.state = state
        self.parts = parts
        self.context = context
        self.progress = 0.0
        """Progress of the run, from 0 to 1."""
        self._stage: Stage | None = None
        self._is_over = False
        self._has_begun = False
        self._show: Show = _ignore
        self._book: Book = _ignore

    def begin(self, show: Show) -> None:
        self._show = show

    def book_with(self, book: Book) -> None:
        self._book = book

    def step(self, number: int) -> Stream | None:
        del number
        stage = self._stage = None if self._is_over else self._next_stage()
        if stage is None:
            return None
        self.progress = self.progress_of(stage, 0.0)
        run = StageRun(self.state, self.parts, self.context, self._book, self._show)
        return _StageStream(self, stage, run)

    def step_start(self, number: int) -> StepStart:
        name = self._stage.name if self._stage is not None else None
        return StepStart(number, name=name, progress=round(self.progress, 4))

    def progress_of(self, stage: Stage, part: float) -> float:
        """Return the progress of the run after a part of a stage. `part` is from 0 to 1."""
        return (self.stages.index(stage) + min(max(part, 0.0), 1.0)) / len(self.stages)

    def first_state(self) -> Data | None:
        """Return the event with the state before the first stage, once. None after that."""
        if self._has_begun:
            return None
        self._has_begun = True
        return self._state_event()

    def note_end(self, stage: Stage, event: WorkflowEvent) -> Data:
        """Note the end of a stage, and return the event with the state. Raises StageFailed."""
        self._is_over = event.type == "completed"
        self.state.stages_done = [*self.state.stages_done, stage.name]
        return self._state_event()

    def _state_event(self) -> Data:
        try:
            content = plain_json(msgspec.to_builtins(self.state))
            size = len(msgspec.json.encode(content))
        except (TypeError, ValueError) as error:
            raise StageFailed(f"the state of the workflow is not JSON: {error}") from error
        if size > MAX_STATE:
            raise StageFailed(f"the state of the workflow has more than {MAX_STATE:,} bytes")
        return Data(STATE, content)

    def _next_stage(self) -> Stage | None:
        for stage in self.stages:
            if stage.name not in self.state.stages_done and (stage.when is None or stage.when(self.state)):
                return stage
        return None


class _StageStream:
    """The events of one stage, as the stream of a step."""

    def __init__(self, source: WorkflowSource, stage: Stage, run: StageRun[Any]) -> None:
        self._source = source
        self._stage = stage
        self._run = run
        self._events: AsyncIterator[StageOutput] | None = None
        self._deadline = 0.0
        self._text: int | None = None
        """Index of the text block that is open, or None."""
        self._has_ended = False

    async def __aenter__(self) -> _StageStream:
        self._deadline = asyncio.get_running_loop().time() + self._stage.seconds
        made = cast("object", self._stage.function(self._run))
        if not isinstance(made, AsyncIterator):
            close = getattr(made, "close", None)  # a coroutine that is never awaited warns
            if close is not None:
                close()
            raise StageFailed(f"the stage {self._stage.name} is not an async generator function")
        self._events = cast("AsyncIterator[StageOutput]", made)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._events, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            await self._run.close()

    def __aiter__(self) -> _StageStream:
        return self

    async def __anext__(self) -> Sequence[SourceEvent]:
        if self._has_ended:
            raise StopAsyncIteration
        if (state := self._source.first_state()) is not None:
            return [state]
        assert self._events is not None
        name, deadline = self._stage.name, asyncio.timeout_at(self._deadline)
        try:
            async with deadline:
                output = await anext(self._events)
        except StopAsyncIteration:
            raise StageFailed(
                f"the stage {name} ended without done, completed or fail", code="stage_unfinished"
            ) from None
        except TimeoutError:
            if not deadline.expired():
                raise
            raise self._timeout() from None
        if deadline.expired():  # the stage has caught the cancellation
            raise self._timeout()
        return self._taken(output)

    def _timeout(self) -> StageFailed:
        limit = f"the stage {self._stage.name} took more than {self._stage.seconds:g} s"
        return StageFailed(limit, code="stage_timeout")

    def _taken(self, output: StageOutput) -> list[SourceEvent]:
        """Return the events of the turn for one output of the stage."""
        if isinstance(output, str):
            return self._said(output)
        if isinstance(output, WorkflowEvent):
            return self._told(output)
        given: Sequence[object] = output if isinstance(output, list | tuple) else (output,)
        events = [checked_event(event) for event in given]
        return [*self._close_text(), *events]

    def _said(self, text: str) -> list[SourceEvent]:
        if not text:
            raise StageFailed(f"the stage {self._stage.name} gave an empty text")
        if self._text is None:
            self._text = self._run.blocks.take()
        return [checked_event(TextDelta(self._text, text))]

    def _close_text(self) -> list[SourceEvent]:
        if (index := self._text) is None:
            return []
        self._text = None
        return [ContentBlockStop(index)]

    def _told(self, event: WorkflowEvent) -> list[SourceEvent]:
        stage, source = self._stage, self._source
        if event.type == "fail":
            raise StageFailed(event.content or f"the stage {stage.name} failed")
        events: list[SourceEvent] = []
        part = 1.0 if event.type in ENDS else event.progress
        if part is not None:
            source.progress = source.progress_of(stage, part)
        if event.type in ENDS:
            self._has_ended = True
            events = [*self._close_text(), source.note_end(stage, event)]
        told = msgspec.structs.replace(
            event,
            progress=round(source.progress, 4),
            timestamp=iso_timestamp(time_ns() // 1000),
            stage=stage.name,
            node=stage.node or stage.name,
        )
        return [*events, checked_event(told.as_data())]


def _ignore(*_given: object) -> None:
    """Ignore the event or the call of a run that has not begun."""
