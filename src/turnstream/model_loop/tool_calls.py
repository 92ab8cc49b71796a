"""The tool calls of a turn while they have no result, and the contexts that their functions get."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from turnstream.core.blocks import Block, call_id
from turnstream.core.tool_input import call_digest
from turnstream.core.tool_results import ToolCallName
from turnstream.core.turn_events import ToolProgress
from turnstream.model_loop.sources import Show
from turnstream.tools.asking import NO_APPROVALS, ApprovalAnswer, ApprovalQuestion, Approvals, denial
from turnstream.tools.base import ToolContext, ToolOutput
from turnstream.tools.ledger import NoLedger, ToolLedger
from turnstream.tools.runner import ToolRunner, tool_name

MOST_PROGRESS = 64
"""Pieces of one call's progress that may wait for the event loop."""


class ToolUse(NamedTuple):
    """The tools of one turn.

    Attributes:
        offered: Names of the runner's tools that the model is given.
        owner: The turn's owner, for the tools' contexts.
        metadata: The turn's metadata, for the tools' contexts.
        approvals: Gives approvals to calls of tools that ask.
        ledger: Notes the calls before they run, and their results.
    """

    runner: ToolRunner
    offered: tuple[str, ...]
    turn_id: str
    owner: str
    metadata: dict[str, object]
    approvals: Approvals = NO_APPROVALS
    ledger: ToolLedger = NoLedger()


class ResumedStep(NamedTuple):
    """A step at which a turn continues.

    Attributes:
        number: Number of the step.
        calls: Tool calls without results, after a complete answer of the model. Each has the answer to its
            approval, or None if it has none. `calls` is None if the model must be called again.
    """

    number: int
    calls: tuple[tuple[Block, ApprovalAnswer | None], ...] | None = None


class UnansweredCall:
    """A tool call without a result."""

    __slots__ = ("answer", "block", "question", "task")

    def __init__(self, block: Block, answer: ApprovalAnswer | None = None) -> None:
        self.block = block
        self.answer = answer
        """The stored answer to the call's approval, or None."""
        self.question: ApprovalQuestion | None = None
        """The question to be answered before the call runs, or None."""
        self.task: asyncio.Task[ToolOutput] | None = None

    @property
    def name(self) -> ToolCallName:
        """Id and tool name of the call."""
        return ToolCallName(call_id(self.block), tool_name(self.block))

    def refusal(self, answer: ApprovalAnswer | None) -> str | None:
        """Return the result of a call that `answer` does not allow to run, or None."""
        if answer is None:
            return None
        if not answer.approved:
            return denial(answer)
        if answer.input_digest not in {None, call_digest(self.block)}:
            return "the arguments are not those that were approved, and nothing was run: call again"
        return None


class ToolContexts:
    """Makes the contexts of a turn's tools.

    It does not reference the source. That would be a reference cycle, and an ended turn should be freed at
    once, not by the collector.
    """

    __slots__ = ("_tools", "show")

    def __init__(self, tools: ToolUse) -> None:
        self.show: Show | None = None
        self._tools = tools

    def of(self, identity: str) -> ToolContext:
        """Return the context of the call with this id."""
        tools, shower = self._tools, ProgressShower(asyncio.get_running_loop(), self.show)
        return ToolContext(identity, tools.turn_id, tools.owner, tools.metadata, shower)


class ProgressShower:
    """Shows the progress of one call, from any thread.

    Pieces that come faster than the event loop runs are shown together. Of more than MOST_PROGRESS pieces,
    only the newest are shown.
    """

    __slots__ = ("_is_due", "_loop", "_show", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, show: Show | None) -> None:
        self._loop = loop
        self._show = show
        self._waiting: deque[str] = deque(maxlen=MOST_PROGRESS)
        self._is_due = False

    def __call__(self, tool_use_id: str, text: str) -> None:
        self._waiting.append(text)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon_threadsafe(self._show_waiting, tool_use_id)

    def _show_waiting(self, tool_use_id: str) -> None:
        self._is_due = False  # first of all: a piece that comes from now on schedules another call
        pieces: list[str] = []
        while self._waiting:
            pieces.append(self._waiting.popleft())
        if pieces and self._show is not None:
            self._show(ToolProgress(tool_use_id, "".join(pieces)))
