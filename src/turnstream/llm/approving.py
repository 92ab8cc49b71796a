"""Approvals of tool calls in the library: a function of the caller answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from turnstream.tools.asking import NO_APPROVALS, ApprovalAnswer, ApprovalQuestion, Approvals
from turnstream.tools.runner import within

logger = logging.getLogger(__name__)

ApprovalResult: TypeAlias = bool | tuple[bool, str]
"""True, False, or `(False, reason)`. The model gets the reason."""
Approve: TypeAlias = Callable[[ApprovalQuestion], ApprovalResult | Awaitable[ApprovalResult]]


def approvals_of(approve: Approve | None, seconds: float) -> Approvals:
    """Return the approvals of one stream.

    Args:
        approve: Answers each question, one at a time. None: every call that asks is denied.
        seconds: Seconds that an answer may take. Then the call is denied.
    """
    if approve is None:
        return NO_APPROVALS
    asked = _AskedCaller(approve, seconds)
    return Approvals(asked.was_approved, asked.answer)


class _AskedCaller:
    """The answers of the caller's function to the questions of one stream."""

    def __init__(self, approve: Approve, seconds: float) -> None:
        self._approve = approve
        self._seconds = seconds
        self._approved: set[str] = set()
        self._turn = asyncio.Lock()

    async def was_approved(self, tool_name: str) -> bool:
        """Return True if a call of the tool was approved in this stream."""
        return tool_name in self._approved

    async def answer(self, question: ApprovalQuestion) -> ApprovalAnswer:
        """Return the caller's answer. Questions are asked one after another, in the order of the calls."""
        name = question.tool_name
        async with self._turn:
            task = await within(self._seconds, partial(self._approve, question), f"approval of {name}")
        if task is None or task.cancelled():
            return ApprovalAnswer(approved=False, reason="there was no answer in time")
        if (error := task.exception()) is not None:
            logger.warning("the approval of the tool %s failed: the call is denied", name, exc_info=error)
            return ApprovalAnswer(approved=False, reason="the approval failed")
        answer = _answer_of(task.result())
        if answer.approved:
            self._approved.add(name)
        return answer


def _answer_of(result: object) -> ApprovalAnswer:
    """Return the answer for a function's result. Only True, or a tuple that begins with True, approves."""
    match result:
        case bool():
            return ApprovalAnswer(result)
        case (bool() as approved, str() as reason):
            return ApprovalAnswer(approved, reason)
        case _:
            logger.warning("an approval is True, False or (False, reason), not %r: denied", type(result))
            return ApprovalAnswer(approved=False)
