"""Writing to a terminal, or to a file or pipe in its place."""

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
"""Control characters as pictures: what a model says must not move the cursor or talk to the terminal."""


class Piece(NamedTuple):
    """Text to write. `aside`: it belongs to the answer's surroundings (thinking, tool calls, notices), not to it."""

    text: str
    aside: bool = False


class Screen:
    """Writes answers to standard output and asides, dimmed on a terminal, to standard error: so a pipe or a file gets
    the answer and nothing else."""

    def __init__(self, answers: TextIO | None = None, asides: TextIO | None = None) -> None:
        self._answers = answers or sys.stdout
        self._asides = asides or sys.stderr

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write at once what is given. Raises BrokenPipeError."""
        for text, aside in pieces:
            stream = self._asides if aside else self._answers
            if stream.isatty():
                text = text.translate(_PICTURES)  # noqa: PLW2901
                if aside:
                    text = f"{DIM}{text}{RESET}"  # noqa: PLW2901
            stream.write(text)
            stream.flush()


def bold(text: str) -> str:
    """`text` in bold, where standard output is a terminal."""
    return f"{BOLD}{text}{RESET}" if sys.stdout.isatty() else text


def dim(text: str) -> str:
    """`text` dimmed, where standard output is a terminal."""
    return f"{DIM}{text}{RESET}" if sys.stdout.isatty() else text
