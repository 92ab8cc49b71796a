"""The tools of the server process: they note when they begin and end in a file that outlives it, and may
kill it."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.killing import InTool, die
from turnstream.tools import ToolContext

STEPS = 4
"""Pieces of progress of a call."""
PAUSE = 0.005


class Call(NamedTuple):
    """One call of a tool, as a client, the store or the notes have it."""

    turn_id: str
    tool_use_id: str


class Tools:
    """One tool in the event loop, one in a thread. `notes`: the file; `kill`: where the process dies, if in
    a tool."""

    def __init__(self, notes: Path, kill: InTool | None) -> None:
        self._notes = notes
        self._kill = kill
        self._numbers = itertools.count(1)

    @property
    def functions(self) -> list[Any]:
        return [self.look_up, self.weigh]

    async def look_up(self, subject: str, context: ToolContext) -> str:
        """Look something up.

        Args:
            subject: What.
        """
        number = self._begin(context)
        for step in range(1, STEPS + 1):
            self._show(context, number, step)
            await asyncio.sleep(PAUSE)
        return self._end(context, found(subject))

    def weigh(self, subject: str, context: ToolContext) -> str:
        """Tell how heavy something is.

        Args:
            subject: What.
        """
        number = self._begin(context)
        for step in range(1, STEPS + 1):
            self._show(context, number, step)
            time.sleep(PAUSE)
        return self._end(context, weight(subject))

    def _begin(self, context: ToolContext) -> int:
        self._note("began", context)
        return next(self._numbers)

    def _show(self, context: ToolContext, number: int, step: int) -> None:
        context.progress(f"step {step} 🔧")
        if self._kill == InTool(number, step):
            die()

    def _end(self, context: ToolContext, text: str) -> str:
        self._note("ended", context)
        return text

    def _note(self, what: str, context: ToolContext) -> None:
        descriptor = os.open(self._notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{what} {context.turn_id} {context.tool_use_id}\n".encode())
        os.close(descriptor)


def found(subject: str) -> str:
    return f"{subject} 👩‍👩‍👧‍👦\u2028is here"


def weight(subject: str) -> str:
    return f"{subject}: 7 kg, e\u0301 \u0085"


class Notes(NamedTuple):
    """Return how often each call began and ended, over all processes."""

    began: Counter[Call]
    ended: Counter[Call]

    @property
    def unfinished(self) -> set[Call]:
        return {*(self.began - self.ended)}


def read_notes(file: Path) -> Notes:
    notes = Notes(Counter(), Counter())
    for line in file.read_text().splitlines() if file.exists() else ():
        what, turn_id, tool_use_id = line.split(" ")
        (notes.began if what == "began" else notes.ended)[Call(turn_id, tool_use_id)] += 1
    return notes
