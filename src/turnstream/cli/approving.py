"""Approvals of tool calls at the terminal: `[y/N]`. Without a terminal, every call is denied."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

from turnstream.cli.followed_turn import FollowedTurn
from turnstream.cli.terminal import Piece, Screen
from turnstream.errors import Conflict

if sys.platform != "win32":
    import termios

NO_TERMINAL = "there was no terminal for the question"
DENIED = "denied at the terminal"


class ApprovalPrompt:
    """Answers the approval requests of a turn, one after another. Its task belongs to the `async with` block.

    Only `y` or `yes` approves. Enter alone denies.

    Args:
        open_requests: The unanswered requests of the turn by id, kept up to date by the caller.
    """

    def __init__(
        self, turn: FollowedTurn, open_requests: Mapping[str, Mapping[str, Any]], screen: Screen
    ) -> None:
        self._turn = turn
        self._open = open_requests
        self._screen = screen
        self._asked: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ApprovalPrompt:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def check(self) -> None:
        """Begin to answer the requests that have come. Raises the error of an answer that failed."""
        if self._task is not None and self._task.done():
            self._task.result()
            self._task = None
        if self._task is None and self._open.keys() - self._asked:
            self._task = asyncio.get_running_loop().create_task(self._answer_all(), name="approvals")

    async def _answer_all(self) -> None:
        while waiting := [name for name in self._open if name not in self._asked]:
            request = self._open[waiting[0]]
            self._asked.add(waiting[0])
            approved, reason = await self._answer(str(request["tool_name"]))
            try:
                await self._turn.approve(waiting[0], approved=approved, reason=reason)
            except Conflict as refused:  # answered elsewhere, expired, or the turn has ended
                self._say(f"[{refused.message}]\n")

    async def _answer(self, tool_name: str) -> tuple[bool, str | None]:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            self._say(f"[{tool_name} asks before it runs: denied, {NO_TERMINAL}]\n")
            return False, NO_TERMINAL
        _discard_typed()
        self._say(f"\nRun {tool_name}? [y/N] ")
        approved = (await _line()).strip().lower() in {"y", "yes"}
        return (True, None) if approved else (False, DENIED)

    def _say(self, text: str) -> None:
        self._screen.write([Piece(text, aside=True)])


def _discard_typed() -> None:
    """Discard lines that were typed before a question: they cannot be its answer."""
    if sys.platform != "win32":
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


async def _line() -> str:
    """Return the next line that is typed, or an empty text at the end of the input."""
    if sys.platform == "win32":
        return await asyncio.to_thread(sys.stdin.readline)
    loop, typed, descriptor = asyncio.get_running_loop(), asyncio.Event(), sys.stdin.fileno()
    loop.add_reader(descriptor, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 4096).decode("utf-8", "replace")
