"""Splits growing Markdown into sections, which are drawn one by one.

A screen is laid out again for each new piece of text. With sections, only the last one is parsed again, and
those out of view need no widgets.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SECTION_LENGTH = 1_500
"""Characters after which a section ends at the next blank line."""
LONGEST_SECTION = 4_000
"""Characters after which a section ends at the next line, in the middle of a list or of code too."""
LONGEST_LINE = 8_000
"""Characters of a section after which it ends within a line."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


class SectionGrowth(NamedTuple):
    """Text that was added. `begins`: True if it begins a new section, False if it extends the last one."""

    text: str
    begins: bool


class SectionSplitter:
    """Splits a growing Markdown text. The sections together have the whole text.

    A section that ends within fenced code gets a closing fence, and the next one the opening fence.
    """

    def __init__(self) -> None:
        self._length = 0
        self._line = ""
        self._fence = ""
        self._opening = ""
        self._due = True

    def feed(self, text: str) -> list[SectionGrowth]:
        """Return the growth of the sections by `text`, in order."""
        grown: list[SectionGrowth] = []
        for line in text.splitlines(keepends=True) if len(text) > 1 else [text]:
            if line:
                self._take(line, grown)
        return grown

    def _take(self, piece: str, grown: list[SectionGrowth]) -> None:
        while self._length + len(piece) > LONGEST_LINE:
            room = max(LONGEST_LINE - self._length, 1)
            self._add(piece[:room], grown)
            self._line = ""
            self._end_section(grown)
            piece = piece[room:]
        if not piece:
            return
        self._add(piece, grown)
        if not piece.endswith("\n"):
            self._line += piece
            return
        line, self._line = self._line + piece, ""
        self._note_fence(line)
        if self._length >= LONGEST_SECTION or (
            self._length >= SECTION_LENGTH and not self._fence and not line.strip()
        ):
            self._end_section(grown)

    def _add(self, piece: str, grown: list[SectionGrowth]) -> None:
        if self._due:
            self._due = False
            if self._fence:
                piece = self._opening + piece
            self._length = len(piece)
            grown.append(SectionGrowth(piece, begins=True))
            return
        self._length += len(piece)
        if grown:
            last = grown[-1]
            grown[-1] = SectionGrowth(last.text + piece, last.begins)
        else:
            grown.append(SectionGrowth(piece, begins=False))

    def _end_section(self, grown: list[SectionGrowth]) -> None:
        if self._fence:
            last = grown[-1]
            gap = "" if last.text.endswith("\n") else "\n"
            grown[-1] = SectionGrowth(f"{last.text}{gap}{self._fence}\n", last.begins)
        self._due = True
        self._length = 0

    def _note_fence(self, line: str) -> None:
        found = _FENCE.match(line)
        if found is None:
            return
        marks, info = found[1], found[2].strip()
        if not self._fence:
            if marks[0] == "~" or "`" not in info:
                self._fence, self._opening = marks, line.lstrip(" ")
        elif marks[0] == self._fence[0] and len(marks) >= len(self._fence) and not info:
            self._fence = self._opening = ""
