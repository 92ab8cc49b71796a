"""A tool call: its arguments, its progress, its approval and its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec
from textual.content import Content
from textual.widgets import Static

from turnstream.core.blocks import Block
from turnstream.terminal.printable import printable, printable_line

SHOWN_LENGTH = 1_500
"""Characters of arguments, and of a result, that are shown. Export has all."""
SHOWN_LINES = 12


class CardState(NamedTuple):
    """State of a call as a card shows it.

    Args:
        arguments: JSON so far.
        asks: True while the call waits for an approval.
        result: Block of the result, or None.
        over: True if the turn has ended.
    """

    tool_name: str
    arguments: str
    progress: str = ""
    asks: bool = False
    result: Block | None = None
    over: bool = False


class ToolCard(Static):
    """The card of one call."""

    DEFAULT_CSS = """
    ToolCard { height: auto; border-left: thick $primary; padding: 0 1; margin: 0 0 1 0; }
    ToolCard.failed { border-left: thick $error; }
    ToolCard.asks { border-left: thick $warning; }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)

    def show(self, state: CardState) -> None:
        """Draw the call."""
        failed = state.result is not None and bool((state.result.content or {}).get("is_error"))
        self.set_class(failed, "failed")
        self.set_class(state.asks, "asks")
        lines = [f"{_sign(state, failed=failed)} {printable_line(state.tool_name or 'tool')}"]
        if arguments := pretty_arguments(state.arguments):
            lines.append(arguments)
        if state.asks:
            lines.append("May this run? Ctrl+Y approves, Ctrl+X denies.")
        if state.progress and state.result is None:
            lines.append(_cut(printable(state.progress.rstrip()), from_end=True))
        if state.result is not None:
            result = _cut(printable(result_text(state.result))).replace("\n", "\n  ")
            lines.append(f"{'✗' if failed else '→'} {result}")
        self.update(Content("\n".join(lines)))


def _sign(state: CardState, *, failed: bool) -> str:
    if state.result is not None:
        return "✗" if failed else "✓"
    if state.asks:
        return "?"
    return "–" if state.over else "⚙"


def pretty_arguments(arguments: str) -> str:
    """Return arguments as lines of `name: value`, made safe. Incomplete JSON stays as it is."""
    try:
        values: Any = msgspec.json.decode(arguments) if arguments.strip() else {}
    except msgspec.DecodeError:
        return _cut(printable(arguments))
    if not isinstance(values, dict):
        return _cut(printable(arguments))
    named = cast("Mapping[str, Any]", values)
    return _cut("\n".join(f"  {printable_line(name)}: {_value(value)}" for name, value in named.items()))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return printable(text).replace("\n", "\n    ")


def result_text(block: Block) -> str:
    """Return the text of a tool's result."""
    content = block.text_content or (block.content or {}).get("content") or ""
    return content if isinstance(content, str) else msgspec.json.encode(content).decode()


def _cut(text: str, *, from_end: bool = False) -> str:
    lines = text.splitlines()
    cut = len(text) > SHOWN_LENGTH or len(lines) > SHOWN_LINES
    if not cut:
        return text
    if from_end:
        return "…\n" + "\n".join(lines[-SHOWN_LINES:])[-SHOWN_LENGTH:]
    return "\n".join(lines[:SHOWN_LINES])[:SHOWN_LENGTH] + "\n…"
