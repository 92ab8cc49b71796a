"""A stage of a workflow, and one run of a stage: its state, its model calls and its tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, Unpack

import msgspec

from turnstream.adapters.indexes import BlockIndexes
from turnstream.core.blocks import Block
from turnstream.core.stream_events import ToolInputDelta
from turnstream.core.tool_results import ToolCallName, result_events
from turnstream.core.turn_events import SourceEvent, ToolProgress
from turnstream.core.usage import Usage
from turnstream.llm.call_options import CallOptions
from turnstream.llm.message_stream import MessageStream
from turnstream.llm.model_message import MessageAttempt, ModelMessage, ToolCall
from turnstream.llm.prompts import Prompt
from turnstream.llm.readers import TextReader
from turnstream.model_loop.model_call import ModelCall
from turnstream.model_loop.sources import Book, Show
from turnstream.tools.base import ToolContext, ToolOutput
from turnstream.tools.runner import ToolRunner
from turnstream.workflow.events import WorkflowEvent
from turnstream.workflow.prompts import StagePrompts
from turnstream.workflow.state import ContextItem, WorkflowState

STAGE_SECONDS = 240.0
"""Seconds that a stage may take by default."""

StateT = TypeVar("StateT", bound=WorkflowState)
StageOutput: TypeAlias = WorkflowEvent | str | SourceEvent | Sequence[SourceEvent]
"""Output of a stage: an event of the workflow, text of the answer, or events of the turn."""
StageFunction: TypeAlias = "Callable[[StageRun[Any]], AsyncIterator[StageOutput]]"
Retrieve: TypeAlias = Callable[[str], Awaitable[Sequence[ContextItem | str]]]
LoadDocument: TypeAlias = Callable[[str], Awaitable[str | None]]


class StreamingModel(Protocol):
    """A model that stages call. `LLM` implements it."""

    def stream(
        self, prompt: Prompt | None = None, *, output: None = None, **options: Unpack[CallOptions]
    ) -> MessageStream[None]: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a workflow.

    Attributes:
        name: Name of the stage, unique in its workflow.
        function: An async generator function. Its last event is `done`, `completed` or `fail`.
        node: Name of the kind of stage, for clients. Empty: the name.
        seconds: Seconds that the stage may take.
        when: Called with the state. Returns False to skip the stage. None: the stage always runs.
    """

    name: str
    function: StageFunction
    node: str = ""
    seconds: float = STAGE_SECONDS
    when: Callable[[Any], bool] | None = None

    @classmethod
    def of(cls, stage: Stage | StageFunction) -> Stage:
        """Return the stage of a function, with the function's name."""
        return stage if isinstance(stage, Stage) else cls(getattr(stage, "__name__", "stage"), stage)


class StageParts(NamedTuple):
    """The model, the tools and the functions that the stages of a workflow use.

    Attributes:
        tools: Runs the tools that models may call.
        retrieve: Returns context for a request, or None.
        load_document: Returns the text of a document by its id, or None if the document does not exist.
    """

    model: StreamingModel
    tools: ToolRunner
    prompts: StagePrompts
    retrieve: Retrieve | None = None
    load_document: LoadDocument | None = None


class RunContext(NamedTuple):
    """The turn that a workflow runs as.

    Attributes:
        owner: Owner of the turn, for tools.
        metadata: Metadata of the turn, for tools.
    """

    turn_id: str = ""
    owner: str = "local"
    metadata: dict[str, Any] = {}


class StageRun(Generic[StateT]):
    """One run of one stage.

    Attributes:
        state: The state of the workflow. It is stored when the stage ends.
        parts: The model, the tools and the functions of the workflow.
        blocks: Indexes of the blocks that the stage shows.
    """

    def __init__(
        self,
        state: StateT,
        parts: StageParts,
        context: RunContext,
        book: Book,
        show: Show,
    ) -> None:
        self.state = state
        self.parts = parts
        self.blocks = BlockIndexes()
        self._context = context
        self._book = book
        self._show = show
        self._answers: list[ShownAnswer] = []

    async def ask(
        self, prompt: Prompt, *, model: StreamingModel | None = None, **options: Unpack[CallOptions]
    ) -> str:
        """Call the model, and return its text. Watchers do not see the answer. Raises ProviderError.

        Args:
            model: Another model to call. None: the workflow's.
        """
        return (await self.call(prompt, model=model, **options)).text

    async def call(
        self,
        prompt: Prompt | None = None,
        *,
        model: StreamingModel | None = None,
        **options: Unpack[CallOptions],
    ) -> ModelMessage[None]:
        """Call a model, as `ask` does, and return its message. Raises ProviderError."""
        async with self._calling((model or self.parts.model).stream(prompt, **options)) as stream:
            return await stream.final_message()

    def answer(
        self, prompt: Prompt, *, model: StreamingModel | None = None, **options: Unpack[CallOptions]
    ) -> ShownAnswer:
        """Return an answer of a model, to yield its text as it comes. Its thinking is not part of it.

        `async for text in run.answer("…"): yield text`. Reading it raises ProviderError.
        """
        stream = (model or self.parts.model).stream(prompt, **options)
        answer = ShownAnswer(self._calling(stream, is_shown=True))
        self._answers.append(answer)
        return answer

    async def close(self) -> None:
        """Stop the answers that were not read to their end."""
        for answer in self._answers:
            await answer.aclose()

    async def use_tools(self, calls: Sequence[ToolCall]) -> list[ToolOutput]:
        """Run calls of a model, several at a time. Return the outputs, in the order of the calls."""
        runner, context = self.parts.tools, self._context
        parallel = asyncio.Semaphore(runner.limits.parallel)

        async def run(call: ToolCall) -> ToolOutput:
            content = {"tool_use_id": call.id, "tool_name": call.name, "input": call.arguments}
            if call.error is not None:
                content["input_error"] = call.error
            called = ToolContext(call.id, context.turn_id, context.owner, context.metadata, self._progress)
            async with parallel:
                return await runner.run(Block(0, "tool_use", None, content), called, offered=[*runner.tools])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(call)) for call in calls]
        return [task.result() for task in tasks]

    def shown_tool(self, call: ToolCall, output: ToolOutput) -> list[SourceEvent]:
        """Return the events that show a call and its result, for the stage to yield."""
        key, name = ("call", call.id), ToolCallName(call.id, call.name)
        return [
            self.blocks.start(key, "tool_use", {"tool_use_id": call.id, "tool_name": call.name}),
            ToolInputDelta(self.blocks[key], call.arguments_json or "{}"),
            self.blocks.stop(key),
            *result_events(self.blocks.take(), name, output.text, is_error=output.is_error),
        ]

    def _progress(self, tool_use_id: str, text: str) -> None:
        self._show(ToolProgress(tool_use_id, text))

    @asynccontextmanager
    async def _calling(
        self, stream: MessageStream[None], *, is_shown: bool = False
    ) -> AsyncGenerator[MessageStream[None], None]:
        """Open a model's stream. Its calls are part of the turn's account, however they end.

        A call that runs is booked too, so that the account has it after a crash.

        Args:
            is_shown: True if watchers see the answer. Then the blocks of the turn show how much has come.
        """

        def book(calls: Sequence[ModelCall]) -> None:
            *ended, last = calls
            if not is_shown and not last.outcome:
                last = last._replace(usage=msgspec.structs.replace(last.usage, output_tokens=0))
            self._book(stream.id, [*ended, last])

        stream.watch_calls(book)
        try:
            async with stream:
                yield stream
        finally:
            self._book(stream.id, [_call_of(attempt) for attempt in stream.message.attempts])


def _call_of(attempt: MessageAttempt) -> ModelCall:
    return ModelCall(
        0,
        0,
        attempt.called,
        attempt.usage,
        estimated=attempt.estimated,
        answered=attempt.outcome == "complete" or attempt.usage != Usage(),
        outcome=attempt.outcome,
        duration=attempt.duration,
        raw_usage=attempt.raw_usage,
        first_output=attempt.first_output,
    )


class ShownAnswer:
    """An answer of a model: an async iterator over the pieces of its text.

    Text is never retracted. An answer that breaks off raises its error.
    """

    def __init__(self, calling: AbstractAsyncContextManager[MessageStream[None]]) -> None:
        self._pieces: list[str] = []
        self._calling = calling
        self._stack = AsyncExitStack()
        self._reader: TextReader | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def __aiter__(self) -> ShownAnswer:
        return self

    async def __anext__(self) -> str:
        if self._reader is None:
            self._reader = (await self._stack.enter_async_context(self._calling)).text
        try:
            piece = await anext(self._reader)
        except StopAsyncIteration:
            await self.aclose()
            raise
        self._pieces.append(piece)
        return piece

    async def aclose(self) -> None:
        """Stop the model call, if it still runs."""
        await self._stack.aclose()
