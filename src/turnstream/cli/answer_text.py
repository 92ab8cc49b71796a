"""Formats native events as terminal text. It does no I/O: events may come over HTTP or from the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnstream.cli.terminal import Piece
from turnstream.core.native_fold import NativeFold
from turnstream.terminal.block_summary import summary_of

_GROWING = frozenset({"text", "thinking", "tool_use"})
"""Types of blocks that are shown as they grow.

Other blocks are summarised in one line when they are complete.
"""
_EXPECTED_ENDS = frozenset({None, "end_turn", "stop_sequence", "tool_use"})


class AnswerText:
    """Converts the events of one answer into pieces of text.

    Written text is never erased: a resumed stream adds only the missing text, and a line reports retracted
    text. The pieces that are not asides form the answer's text blocks, with blank lines between them. The
    line breaks around an aside belong to the aside.
    """

    def __init__(self) -> None:
        self.fold = NativeFold()
        self._shown: dict[int, list[str]] = {}
        self._current: int | None = None
        self._pieces: list[Piece] = []
        self._last = "\n"
        self._last_of_answer = ""

    def feed(self, name: str, data: Mapping[str, Any]) -> list[Piece]:
        """Return the pieces to write for one event. The arguments are those of `NativeFold.feed`."""
        self.fold.feed(name, data)
        match name:
            case "block_start" | "block_delta":
                delta: Mapping[str, str] = data.get("delta", {})
                self._grow(data, delta.get("text") or delta.get("partial_json") or "")
            case "block_catchup":
                self._catch_up(data)
            case "block_stop":
                self._summarise(data["block_index"])
            case "block_reset":
                self._forget_from(data["block_index"])
                self._line("[the model starts again: the text below replaces the text above]")
            case "notice":
                if data["code"] == "truncated":
                    self._forget_from(data.get("block_index") or 0)
                self._line(f"[{data['message']}]")
            case "source":
                self._line(f"[source: {data.get('title') or ''} {data.get('url') or ''}]")
            case "tool_progress":
                self._write(data["text"], aside=True)
            case "turn_complete" if data.get("stop_reason") not in _EXPECTED_ENDS:
                self._line(f"[ended early: {data['stop_reason']}]")
            case _:
                pass
        return self._take()

    def close(self) -> list[Piece]:
        """Return the pieces that end the last line of the answer and of the screen."""
        if self._last_of_answer and not self._last_of_answer.endswith("\n"):
            self._write("\n")
        elif not self._last.endswith("\n"):
            self._write("\n", aside=True)
        return self._take()

    def _take(self) -> list[Piece]:
        pieces = self._pieces
        self._pieces = []
        return pieces

    def _write(self, text: str, *, aside: bool = False) -> None:
        if not text:
            return
        self._pieces.append(Piece(text, aside, markdown=not aside))
        self._last = text
        if not aside:
            self._last_of_answer = text

    def _grow(self, data: Mapping[str, Any], text: str) -> None:
        index, block_type = data["block_index"], data["block_type"]
        if block_type not in _GROWING or not (text or block_type == "tool_use"):
            return
        aside = block_type != "text"
        if index not in self._shown:
            self._shown[index] = []
            self._separate(aside=aside)
            if block_type == "tool_use":
                content: Mapping[str, Any] = data.get("content") or {}
                self._write(f"→ {content.get('tool_name') or 'tool'} ", aside=True)
        elif index != self._current and aside:
            self._end_line()
        self._current = index
        self._shown[index].append(text)
        self._write(text, aside=aside)

    def _catch_up(self, data: Mapping[str, Any]) -> None:
        index = data["block_index"]
        whole: str = data.get("accumulated_text") or data.get("input_partial") or ""
        shown = "".join(self._shown.get(index, ()))
        if shown and shown.startswith(whole):
            self._shown[index] = [whole]
        elif whole.startswith(shown):
            self._grow(data, whole[len(shown) :])
        else:
            self._forget_from(index)
            self._line("[what follows replaces the text above]")
            self._grow(data, whole)
        if data["complete"]:
            self._summarise(index)

    def _summarise(self, index: int) -> None:
        """Write a line about a complete block if nothing of the block was shown."""
        if index in self._shown:
            return
        block = next((block for block in self.fold.blocks if block.sequence == index), None)
        if block is not None and (summary := summary_of(block)):
            self._shown[index] = []
            self._line(summary)

    def _separate(self, *, aside: bool) -> None:
        """Write a blank line between two blocks. Between two text blocks it belongs to the answer."""
        if not aside and self._last_of_answer:
            self._write("\n" if self._last_of_answer.endswith("\n") else "\n\n")
        elif self._current is not None or not self._last.endswith("\n"):
            self._end_line()
            self._write("\n", aside=True)

    def _line(self, text: str) -> None:
        self._end_line()
        self._write(f"{text}\n", aside=True)

    def _end_line(self) -> None:
        if not self._last.endswith("\n"):
            self._write("\n", aside=True)

    def _forget_from(self, index: int) -> None:
        for later in [known for known in self._shown if known >= index]:
            del self._shown[later]
