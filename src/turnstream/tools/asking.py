"""Approvals of tool calls: the calls that need one, and the seam that gives the approvals."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from turnstream.core.blocks import Block
from turnstream.tools.base import Tool
from turnstream.tools.runner import ToolRunner, tool_name, unusable, within

logger = logging.getLogger(__name__)


NOT_APPROVED = "not approved, and nothing was run"
"""Result that the model gets for a denied call without a reason."""


class ApprovalQuestion(NamedTuple):
    """A tool call that needs an approval.

    Attributes:
        arguments: Arguments as the model wrote them.
    """

    tool_name: str
    arguments: dict[str, Any]
    tool_use_id: str


class ApprovalAnswer(NamedTuple):
    """The answer to an approval request.

    Attributes:
        reason: Reason for the model and the watchers, or None.
        input_digest: Digest of the arguments that the answer is for. None: any arguments.
    """

    approved: bool
    reason: str | None = None
    input_digest: str | None = None


def denial(answer: ApprovalAnswer) -> str:
    """Return the result that the model gets for a call that was not approved."""
    return f"{NOT_APPROVED}: {answer.reason}" if answer.reason else NOT_APPROVED


class Approvals(NamedTuple):
    """Gives approvals to the tool calls of a turn.

    Attributes:
        was_approved: Returns True if a call of this tool was approved before, for the rule `first`.
        answer: Returns the answer to a question. None: answers come later, and the turn waits for them.
    """

    was_approved: Callable[[str], Awaitable[bool]]
    answer: Callable[[ApprovalQuestion], Awaitable[ApprovalAnswer]] | None = None


async def _never_approved(tool_name: str) -> bool:
    del tool_name
    return False


async def _no_answer(question: ApprovalQuestion) -> ApprovalAnswer:
    return ApprovalAnswer(
        approved=False, reason=f"{question.tool_name} needs an approval, and this application gives none"
    )


NO_APPROVALS = Approvals(_never_approved, _no_answer)
"""Denies each call that needs an approval."""


async def question_of(
    runner: ToolRunner, call: Block, approvals: Approvals, *, offered: Sequence[str]
) -> ApprovalQuestion | None:
    """Return the question that must be answered before `call` runs, or None.

    A call that cannot run needs no approval: the runner answers it with an error.

    Args:
        offered: Names of the tools that the model was given.
    """
    name = tool_name(call)
    known = runner.tools.get(name)
    if known is None or known.ask == "never" or name not in offered or unusable(call) is not None:
        return None
    content = call.content or {}
    given = cast("dict[str, Any]", content["input"])
    try:
        arguments = known.arguments.read(given)
    except ValueError:
        return None
    if not await _must_ask(known, arguments, approvals, runner.timeout_of(known)):
        return None
    return ApprovalQuestion(name, given, str(content.get("tool_use_id") or ""))


async def _must_ask(known: Tool, arguments: dict[str, Any], approvals: Approvals, seconds: float) -> bool:
    rule = known.ask
    if isinstance(rule, str):
        return rule == "always" or not await approvals.was_approved(known.name)
    task = await within(seconds, partial(rule, arguments), known.name)
    if task is None or task.cancelled():
        logger.warning("`ask` of the tool %s timed out: the call needs an approval", known.name)
        return True
    if (error := task.exception()) is not None:
        logger.warning("`ask` of the tool %s failed: the call needs an approval", known.name, exc_info=error)
        return True
    return bool(task.result())
