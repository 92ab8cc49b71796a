"""Markdown, styled for a terminal while it streams.

Only what is still ambiguous is held back, at most a short line. Any split of the text gives the same output.
Styles end at the end of their line, so a marker without its partner never styles the rest of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

RESET = "\x1b[0m"
_STYLES = {"heading": "1", "strong": "1", "emphasis": "3", "code": "36", "quote": "2"}
_LONGEST_MARKER = 200
"""Characters of a line that may be held back, as the info string of a fence. A longer line is text."""

_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)\n")
_RULE = re.compile(r" {0,3}(?P<mark>[-*_])(?: *(?P=mark)){2,} *\n")
_HEADING = re.compile(r" {0,3}#{1,6} +")
_BULLET = re.compile(r"(?P<indent> *)[-*+] +(?=[^ ])")
_QUOTE = re.compile(r" {0,3}> ?(?=[^ ]|\n)")
_MAY_BE_MARKER = re.compile(
    r"(?: {0,3}(?:`{1,2}|~{1,2}|#{1,6} *|>  ?|> ?|(?:`{3,}|~{3,})[^`\n]*)|[-*_+ ]*)\Z"
)
"""Beginnings of a line whose meaning depends on the next character."""
_MAY_BE_FENCE_END = re.compile(r" {0,3}(?:`*|~*) *\Z")
_SPECIAL = re.compile(r"[\n`*_\\]")
_RULE_LINE = "─" * 40


class MarkdownStyle:
    """Adds styles to a text that comes in pieces. The text must not have control characters."""

    def __init__(self) -> None:
        self._held = ""
        self._at_line_start = True
        self._fence = ""
        self._ticks = ""
        """Backticks of the open code span."""
        self._open: list[str] = []
        """Open styles, in order."""
        self._previous = " "

    def feed(self, text: str) -> str:
        """Return the output that `text` completes."""
        return self._process(self._held + text, at_end=False)

    def close(self) -> str:
        """Return what is held back, and the end of all styles. A new text may follow."""
        rest = self._process(self._held, at_end=True)
        end = RESET if self._open else ""
        self._open.clear()
        self._ticks = self._held = ""
        return rest + end

    def _process(self, text: str, *, at_end: bool) -> str:
        output: list[str] = []
        place = 0
        while place < len(text):
            after = self._step()(text, place, output, at_end=at_end)
            if after is None:
                break
            place = after
        self._held = text[place:]
        return "".join(output)

    def _step(self) -> Callable[..., int | None]:
        if self._fence:
            return self._in_fence
        return self._line_start if self._at_line_start else self._inline

    def _in_fence(self, text: str, place: int, output: list[str], *, at_end: bool) -> int | None:
        """Write code up to the end of its line, or the end of the fence."""
        end = text.find("\n", place)
        if self._at_line_start:
            line = text[place : end if end >= 0 else len(text)]
            closes = line.strip(" ").startswith(self._fence) and not line.strip(f" {self._fence[0]}")
            if end < 0 and not at_end and _MAY_BE_FENCE_END.match(line) and len(line) < _LONGEST_MARKER:
                return None
            if closes and (end >= 0 or at_end):
                self._fence = ""
                return end + 1 if end >= 0 else len(text)
        stop = end + 1 if end >= 0 else len(text)
        code = text[place:stop].removesuffix("\n")
        if code and not self._open:
            self._toggle("code", output)
        output.append(code)
        self._at_line_start = False
        if end >= 0:
            self._end_line(output)
        return stop

    def _line_start(self, text: str, place: int, output: list[str], *, at_end: bool) -> int | None:
        """Write the marker of a line, if it has one."""
        end = text.find("\n", place)
        known = text[place : end + 1 if end >= 0 else len(text)]
        if end < 0 and not at_end and len(known) < _LONGEST_MARKER and _MAY_BE_MARKER.match(known):
            return None
        if (fence := _FENCE.match(known)) is not None:
            self._fence = fence["fence"]
            return place + fence.end()
        if (rule := _RULE.match(known)) is not None:
            output.append(f"{_RULE_LINE}\n")
            return place + rule.end()
        self._at_line_start, self._previous = False, " "
        if (heading := _HEADING.match(known)) is not None:
            self._toggle("heading", output)
            return place + heading.end()
        if (bullet := _BULLET.match(known)) is not None:
            output.append(f"{bullet['indent']}• ")
            return place + bullet.end()
        if (quote := _QUOTE.match(known)) is not None:
            self._toggle("quote", output)
            output.append("│ ")
            return place + quote.end()
        return place

    def _inline(self, text: str, place: int, output: list[str], *, at_end: bool) -> int | None:
        """Write plain text up to a special character, or handle that character."""
        special = _SPECIAL.search(text, place)
        if special is None or special.start() > place:
            stop = len(text) if special is None else special.start()
            output.append(text[place:stop])
            self._previous = text[stop - 1]
            return stop
        mark = text[place]
        if mark == "\n":
            self._end_line(output)
            return place + 1
        stop = place + 1
        while mark != "\\" and stop < len(text) and text[stop] == mark:
            stop += 1
        if stop == len(text) and not at_end and stop - place < _LONGEST_MARKER:
            return None  # the run may continue, and the character after it counts
        following = text[stop] if stop < len(text) else "\n"
        if mark == "\\":
            return self._escaped(place, following, output)
        run = text[place:stop]
        written = self._code(run, output) if mark == "`" else self._emphasis(run, following, output)
        if not written:
            output.append(run)
        self._previous = mark
        return stop

    def _escaped(self, place: int, following: str, output: list[str]) -> int:
        """Write the character after a backslash if that is punctuation, else the backslash."""
        if self._ticks or following.isalnum() or following.isspace():
            output.append("\\")
            self._previous = "\\"
            return place + 1
        output.append(following)
        self._previous = following
        return place + 2

    def _code(self, run: str, output: list[str]) -> bool:
        """Begin or end a code span. Return False if the backticks are text."""
        if self._ticks and run != self._ticks:
            return False
        self._ticks = "" if self._ticks else run
        self._toggle("code", output)
        return True

    def _emphasis(self, run: str, following: str, output: list[str]) -> bool:
        """Begin or end emphasis. Return False if the marks are text."""
        if self._ticks or len(run) > len("***"):
            return False
        kinds = [kind for kind, width in (("strong", 2), ("emphasis", 1)) if len(run) & width]
        word_before, word_after = self._previous.isalnum(), following.isalnum()
        is_open = all(kind in self._open for kind in kinds)
        if is_open and not self._previous.isspace() and not (run[0] == "_" and word_after):
            pass
        elif is_open or following.isspace() or word_before:
            return False
        for kind in kinds:
            self._toggle(kind, output)
        return True

    def _toggle(self, kind: str, output: list[str]) -> None:
        if kind in self._open:
            self._open.remove(kind)
            output.append(RESET)
        else:
            self._open.append(kind)
        if self._open:
            output.append(f"\x1b[{';'.join(_STYLES[name] for name in self._open)}m")

    def _end_line(self, output: list[str]) -> None:
        if self._open:
            output.append(RESET)
        output.append("\n")
        self._open.clear()
        self._ticks = ""
        self._at_line_start = True
