"""Output to a terminal, a file or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple, TextIO

from turnstream.cli.styling.markdown import MarkdownStyle
from turnstream.errors import TurnstreamError
from turnstream.terminal.printable import printable

DIM = "\x1b[2m"
BOLD = "\x1b[1m"
RESET = "\x1b[0m"


class OutputFailed(TurnstreamError):
    """The answer cannot be written, because the disk is full, for example."""

    code = "output_failed"


class Piece(NamedTuple):
    """Text to write.

    `aside`: True if it is not part of the answer (thinking, tool calls, notices). `markdown`: True if it is
    the model's own text, which is styled on a terminal.
    """

    text: str
    aside: bool = False
    markdown: bool = False


class Screen:
    """Writes answers to standard output and asides to standard error.

    So a pipe or a file gets only the answer, unchanged. On a terminal, asides are dimmed, Markdown is styled,
    and characters that control a terminal are replaced by visible ones.

    Args:
        answers, asides: Streams in place of standard output and standard error.
        styled: False to write Markdown as it is.
    """

    def __init__(
        self, answers: TextIO | None = None, asides: TextIO | None = None, *, styled: bool = True
    ) -> None:
        self._answers = answers or sys.stdout
        self._asides = asides or sys.stderr
        self._markdown = MarkdownStyle() if styled and has_styles(self._answers) else None

    @property
    def on_terminal(self) -> bool:
        """True if answers are written to a terminal."""
        return self._answers.isatty()

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write and flush the pieces.

        Raises BrokenPipeError if the reader has closed the pipe, and OutputFailed for any other failure.
        """
        for piece in pieces:
            stream = self._asides if piece.aside else self._answers
            text = piece.text
            if stream.isatty():
                text = self._for_terminal(piece, stream)
            try:
                stream.write(text)
                stream.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputFailed(f"the output cannot be written: {error.strerror}") from error

    def _for_terminal(self, piece: Piece, stream: TextIO) -> str:
        text = printable(piece.text)
        if piece.markdown and self._markdown is not None:
            return self._markdown.feed(text)
        rest = self._markdown.close() if self._markdown is not None and not piece.markdown else ""
        if rest:
            self._answers.write(rest)
        return f"{DIM}{text}{RESET}" if piece.aside and has_styles(stream) else text


def has_styles(stream: TextIO) -> bool:
    """Return True if a stream is a terminal with styles: NO_COLOR is not set, and TERM is not `dumb`."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str) -> str:
    """Return `text` in bold if standard output is a terminal, else `text` unchanged."""
    return f"{BOLD}{text}{RESET}" if has_styles(sys.stdout) else text


def dim(text: str) -> str:
    """Return `text` dimmed if standard output is a terminal, else `text` unchanged."""
    return f"{DIM}{text}{RESET}" if has_styles(sys.stdout) else text
