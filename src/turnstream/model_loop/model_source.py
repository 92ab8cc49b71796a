"""The model loop: call the model, run the tools that it calls, send it their results, and repeat.

    the model's stream ─► its blocks are stored ─► each call of an idempotent tool starts at once
         ▲                                              │ end marker: the others start, limited in number
         └── history with the results ◄── tool_result blocks, in the order of the calls ◄──┘

A call of a tool without a function here ends the turn. The client runs it, and sends the result with its next
turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import msgspec

from turnstream.core.blocks import Block, Message, is_client_call
from turnstream.core.history import PastTurn, build_history
from turnstream.core.stream_events import (
    MessageStop,
)
from turnstream.core.tool_results import result_events
from turnstream.core.turn_events import Notice, SourceEvent
from turnstream.model_loop.estimates import estimated_input_tokens
from turnstream.model_loop.position import BegunStep
from turnstream.model_loop.preparation import Preparations
from turnstream.model_loop.prepared_calls import PreparedCalls
from turnstream.model_loop.redacted_source import redact_request
from turnstream.model_loop.sources import (
    Batches,
    Continuation,
    PendingApproval,
    Show,
    StepFailure,
    StepRecovery,
    Stream,
    TurnSource,
)
from turnstream.model_loop.tool_calls import ResumedStep, ToolContexts, ToolUse, UnansweredCall
from turnstream.providers.base import CalledModel
from turnstream.providers.conversations import run_work
from turnstream.providers.plan import CallPlan, ShownBlocks
from turnstream.safety.rules import RedactionFilter
from turnstream.tools.asking import question_of
from turnstream.tools.base import ToolContext, ToolOutput
from turnstream.tools.runner import tool_name, unusable
from turnstream.wires.base import ModelRequest, StoredAnswer

MAX_ROUNDS = "max_rounds"
"""Stop reason of a turn that ended because of the limit of tool rounds."""

_ABORTED_STOPS = frozenset({"refusal", "content_filtered", "guardrail_intervened"})
"""Stop reasons of an answer that was broken off. Its tool calls are not run."""


Prepare: TypeAlias = Callable[[ModelRequest], Awaitable[PreparedCalls]]
ReadPast: TypeAlias = Callable[[], Awaitable[Sequence[PastTurn]]]


class ModelSource(TurnSource):
    """Calls models by a plan, and runs tools between the calls.

    The history of each later call is read from storage, so that memory does not grow with the answer.

    Args:
        request: The first call.
        read_past: Reads the turns up to this one, this one included.
        resumed: The step at which the turn continues. None: a new turn.
        prepare: Prepares the calls before the first of them. None: they are made as they are.
        redaction: Rules for the conversation that the models get. None: no rules.
    """

    needs_end_marker = True

    def __init__(  # noqa: PLR0913 - the parts of a turn's calls
        self,
        plan: CallPlan,
        request: ModelRequest,
        read_past: ReadPast,
        tools: ToolUse,
        *,
        resumed: ResumedStep | None = None,
        prepare: Prepare | None = None,
        redaction: RedactionFilter | None = None,
    ) -> None:
        self.stop_reason = None
        self._plan = plan
        self._request = request
        self._read_past = read_past
        self._prepare = prepare
        self.needs_preparation = prepare is not None
        self._redaction = redaction
        self._context: tuple[Message, ...] = ()
        self._tools = tools
        self._clients = {tool.name for tool in request.tools} - set(tools.offered)
        number, calls = resumed or ResumedStep(0)
        self._calls = [UnansweredCall(*call) for call in calls or ()]
        self._rounds = number
        self._continues = number > 0
        """True if another model call follows."""
        self._was_answered = calls is not None
        """True until the remaining calls of a resumed step have their results."""
        self._begun: BegunStep | None = None
        """The blocks of another process that the first step continues, until its call begins, or None."""
        self._pending: list[PendingApproval] = []
        self._parallel = asyncio.Semaphore(tools.runner.limits.parallel)
        self._contexts = ToolContexts(tools)
        self._preparations = Preparations(tools.runner, tools.offered, self._contexts.of)

    @property
    def called(self) -> CalledModel:
        return self._plan.called

    @property
    def answer_headers(self) -> Mapping[str, str]:
        return self._plan.answer_headers

    def begin(self, show: Show) -> None:
        self._contexts.show = show

    async def prepare(self) -> Notice | None:
        if self._prepare is None:
            return None
        self._plan, self._request, self._context, notice = await self._prepare(self._request)
        return notice

    def step(self, number: int) -> Stream | None:
        if number and not self._continues:
            return None
        if number:
            stream = _later_stream(self.next_stream)
        elif self._redaction is not None or self._begun is not None:
            stream = _later_stream(partial(self._begin, self._request))
        else:
            stream = self._plan.begin(self._request)
        return self._preparations.watched(stream)

    @property
    def answer_id(self) -> str | None:
        answer = None if self._begun is None else self._begun.answer
        return self._plan.answer_id if answer is None else answer.response_id

    def continue_step(
        self, shown: Sequence[Block], answer: StoredAnswer | None = None
    ) -> Continuation | None:
        if self.needs_preparation:  # the hook may choose another model
            return None
        if answer is not None and self._plan.choose(answer):
            self._begun = BegunStep(shown, answer)
            return "answer"
        if shown and self._plan.can_continue(shown):
            self._begun = BegunStep(shown, None)
            return "text"
        return None

    async def recover(self, broken: StepFailure) -> StepRecovery:
        failure, first, shown, open_block = broken
        blocks: list[Block] = []
        if shown > (open_block is not None):
            past = await self._read_past()
            blocks.extend(block for block in past[-1].blocks if block.sequence >= first)
        if open_block is not None:
            blocks.append(open_block)
        is_final = any(call.task is not None for call in self._calls)
        recovery = self._plan.recover(failure, ShownBlocks(blocks, is_final))
        stream = self._preparations.watched(recovery.call)
        pause = partial(self._plan.pause, recovery)
        return StepRecovery(stream, recovery.notice, pause, recovery.repeated, recovery.reads_again)

    def note_retracted(self, sequence: int) -> None:
        self._calls = [call for call in self._calls if call.block.sequence < sequence]

    def estimated_input(self) -> int:
        return estimated_input_tokens(self._plan.sent)

    def stored(self, block: Block) -> None:
        if is_client_call(block):
            call = UnansweredCall(block)
            self._calls.append(call)
            if self._tools.runner.may_start_early(block) and unusable(block) is None and self._may_run():
                self._start(call)

    def results(self, stop: MessageStop | None) -> Stream | None:
        self._plan.succeeded()
        reason = stop.stop_reason if stop is not None else None
        calls = self._calls
        was_answered, self._was_answered = self._was_answered, False
        self._continues = False
        usable = [call.name.tool_use_id for call in calls if unusable(call.block) is None]
        self._preparations.keep(usable if reason not in _ABORTED_STOPS else ())
        if not calls and reason == "pause_turn":
            self._rounds += 1
            self._continues = self._may_run()
        if not (calls or was_answered) or reason in _ABORTED_STOPS:
            return None
        self._rounds += 1
        for_client = [call for call in calls if tool_name(call.block) in self._clients]
        ours = [call for call in calls if tool_name(call.block) not in self._clients]
        if any(not call.block.partial for call in for_client):
            self.stop_reason = "tool_use"
        elif calls and not ours:
            return None  # the turn ends as the model's answer did: no client can run a call that was cut off
        elif self._rounds > self._tools.runner.limits.rounds:
            self.stop_reason = MAX_ROUNDS
        else:
            self._continues = True
        return _Results(self, ours) if ours or was_answered else None

    @property
    def pending(self) -> Sequence[PendingApproval]:
        return self._pending

    def unanswered(self) -> Sequence[Block]:
        return [call.block for call in self._calls]

    def give_up(self) -> None:
        self._plan.give_up()

    async def close(self) -> None:
        self._plan.close()
        await _cancel(self._calls)
        await self._preparations.close()

    # -- for the next call -------------------------------------------------------------------------------

    async def next_stream(self) -> Stream:
        """Return a model call that continues from the stored blocks."""
        past = await self._read_past()
        begun = self._begun
        if begun is not None and begun.shown and past:
            before = [block for block in past[-1].blocks if block.sequence < begun.shown[0].sequence]
            past = [*past[:-1], past[-1]._replace(blocks=before)]
        blocks = past[-1].blocks if past else ()
        # After a pause the model has the last word, and continues it.
        paused = not blocks or blocks[-1].block_type != "tool_result"
        messages = await run_work(past, partial(build_history, past, for_next_call=not paused))
        limits = self._tools.runner.limits
        if self._rounds >= limits.soft_rounds and messages[-1].role == "user":
            last = messages[-1]
            reminder = Block(len(last.blocks), "text", _reminder(self._rounds, limits.rounds))
            messages = (*messages[:-1], Message("user", (*last.blocks, reminder)))
        messages = (*self._context, *messages)
        return await self._begin(msgspec.structs.replace(self._request, messages=messages))

    async def _begin(self, request: ModelRequest) -> Stream:
        if (redaction := self._redaction) is not None:
            request = await run_work(request.messages, partial(redact_request, request, redaction))
        begun, self._begun = self._begun, None
        plan = self._plan
        if begun is None:
            return plan.begin(request)
        shown, answer = begun
        if answer is None:
            return plan.resume(request, shown)
        return plan.reattach(request, shown, answer.response_id)

    # -- for the results ---------------------------------------------------------------------------------

    async def start_all(self, calls: Sequence[UnansweredCall]) -> list[UnansweredCall]:
        """Start the calls that are not running, and return all calls except those that wait for an approval.

        Raises StoreError if earlier approvals cannot be read.
        """
        started: list[UnansweredCall] = []
        for call in calls:
            if call.task is None:
                await self._ask_for(call)
                if call.question is not None and self._tools.approvals.answer is None:
                    self._pending.append(PendingApproval(call.block, self._tools.runner.limits.approval))
                    continue
                self._start(call)
            started.append(call)
        return started

    async def _ask_for(self, call: UnansweredCall) -> None:
        """Set the question of a call that needs an approval and has no answer."""
        tools = self._tools
        if call.answer is None and self.stop_reason != MAX_ROUNDS:
            call.question = await question_of(
                tools.runner, call.block, tools.approvals, offered=tools.offered
            )

    def answered(self, call: UnansweredCall) -> None:
        """Drop a call whose result is on its way into the log."""
        self._calls.remove(call)

    @property
    def exhausted(self) -> Notice | None:
        """Notice for watchers if the limit of tool rounds was reached, or None."""
        if self.stop_reason != MAX_ROUNDS:
            return None
        rounds = self._tools.runner.limits.rounds
        return Notice(
            "max_rounds", f"the model called tools for more than {rounds} rounds: the turn ends here"
        )

    def _start(self, call: UnansweredCall) -> None:
        call.task = asyncio.get_running_loop().create_task(
            self._run(call), name=f"tool {tool_name(call.block)}"
        )

    async def _run(self, call: UnansweredCall) -> ToolOutput:
        tools = self._tools
        if self.stop_reason == MAX_ROUNDS:
            return ToolOutput("not run: this turn has used all its rounds of tools", is_error=True)
        answer = call.answer
        if call.question is not None and tools.approvals.answer is not None:
            answer = await tools.approvals.answer(call.question)
        if (refusal := call.refusal(answer)) is not None:
            return ToolOutput(refusal, is_error=True)
        self._preparations.begin(call.name)
        context = await self._preparations.context(call.name.tool_use_id)
        async with self._parallel:
            return await self._run_once(call.block, context)

    async def _run_once(self, block: Block, context: ToolContext) -> ToolOutput:
        """Return the result of a call. The ledger decides if it runs. Raises StoreError."""
        tools = self._tools
        known = tools.runner.tools.get(tool_name(block))
        if known is None or unusable(block) is not None:
            return await tools.runner.run(block, context, offered=tools.offered)
        entry = await tools.ledger.begin(block, is_idempotent=known.idempotent)
        if entry.result is not None:
            return entry.result
        context.key = entry.key or context.key
        output = await tools.runner.run(block, context, offered=tools.offered)
        await tools.ledger.end(entry, output)
        return output

    def _may_run(self) -> bool:
        return self._rounds < self._tools.runner.limits.rounds


@asynccontextmanager
async def _later_stream(build: Callable[[], Awaitable[Stream]]) -> AsyncGenerator[Batches]:
    """Enter a model call whose request `build` makes."""
    async with await build() as batches:
        yield batches


class _Results:
    """The results of a step's calls as a stream, in the order of the calls.

    Closing it cancels running calls.
    """

    def __init__(self, source: ModelSource, calls: Sequence[UnansweredCall]) -> None:
        self._source = source
        self._left = list(calls)
        self._number = 0
        self._notice = source.exhausted

    async def __aenter__(self) -> _Results:
        self._left = await self._source.start_all(self._left)
        return self

    async def __aexit__(self, *_: object) -> None:
        await _cancel(self._left)

    def __aiter__(self) -> _Results:
        return self

    async def __anext__(self) -> Sequence[SourceEvent]:
        if not self._left:
            notice, self._notice = self._notice, None
            if notice is None:
                raise StopAsyncIteration
            return [notice]
        call = self._left[0]
        assert call.task is not None
        output = await asyncio.shield(call.task)
        self._left.pop(0)
        self._source.answered(call)
        events: list[SourceEvent] = [
            *result_events(self._number, call.name, output.text, is_error=output.is_error)
        ]
        self._number += 1
        return events


async def _cancel(calls: Sequence[UnansweredCall]) -> None:
    """Cancel running calls, and wait until they have ended."""
    tasks = [call.task for call in calls if call.task is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _reminder(rounds: int, most: int) -> str:
    return (
        f"(You have used {rounds} of at most {most} rounds of tools in this turn. "
        "Finish now: answer with what you know, and call a tool only if you cannot do without.)"
    )
