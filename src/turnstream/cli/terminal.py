"""Output to a terminal, a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple, TextIO

DIM = "\x1b[2m"
BOLD = "\x1b[1m"
RESET = "\x1b[0m"

_PICTURES = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t\r"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
    ord("\r"): None,
}
"""Visible replacements of control characters, so that a model's text cannot control the terminal."""


class Piece(NamedTuple):
    """Text to write. `aside`: True if it is not part of the answer (thinking, tool calls, notices)."""

    text: str
    aside: bool = False


class Screen:
    """Writes answers to standard output and asides to standard error.

    So a pipe or a file gets only the answer. On a terminal, asides are dimmed.
    """

    def __init__(self, answers: TextIO | None = None, asides: TextIO | None = None) -> None:
        self._answers = answers or sys.stdout
        self._asides = asides or sys.stderr

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write and flush the pieces. Raises BrokenPipeError if the reader has closed the pipe."""
        for text, aside in pieces:
            stream = self._asides if aside else self._answers
            if stream.isatty():
                text = text.translate(_PICTURES)  # noqa: PLW2901
                if aside:
                    text = f"{DIM}{text}{RESET}"  # noqa: PLW2901
            stream.write(text)
            stream.flush()


def bold(text: str) -> str:
    """Return `text` in bold if standard output is a terminal, else `text` unchanged."""
    return f"{BOLD}{text}{RESET}" if sys.stdout.isatty() else text


def dim(text: str) -> str:
    """Return `text` dimmed if standard output is a terminal, else `text` unchanged."""
    return f"{DIM}{text}{RESET}" if sys.stdout.isatty() else text
