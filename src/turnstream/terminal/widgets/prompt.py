"""The field for questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.events import Key, Paste
from textual.message import Message
from textual.widgets import Static, TextArea

from turnstream.terminal.printable import printable

LARGE_PASTE = 4_000
"""Characters from which a pasted text becomes a mark in the prompt. The question has the text itself."""
MOST_CHARACTERS = 4_000_000
"""Characters of a question, with its pasted texts."""
_LISTED = 8


class Prompt(TextArea):
    """A field that grows with its text. Enter sends, and Ctrl+J begins a new line."""

    DEFAULT_CSS = """
    Prompt { height: auto; max-height: 10; min-height: 3; border: round $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = []

    class Submission(Message):
        """The user sends a text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class EditAsked(Message):
        """The user wants to edit the last question."""

    class ScrollAsked(Message):
        """The user scrolls the transcript. `where`: home or end."""

        def __init__(self, where: str) -> None:
            super().__init__()
            self.where = where

    class CompletionAsked(Message):
        """The user moves in the list of completions, or takes one. `step`: 0 takes it."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self) -> None:
        super().__init__(
            soft_wrap=True,
            compact=False,
            highlight_cursor_line=False,
            placeholder="Ask, or / for commands",
        )
        self.completing = False
        """True while completions are listed: arrows move in the list."""
        self._pasted: dict[str, str] = {}

    def question(self) -> str:
        """Return the text with the pasted texts in place of their marks."""
        text = self.text
        for mark, pasted in self._pasted.items():
            text = text.replace(mark, pasted)
        return text

    def fill(self, text: str) -> None:
        """Replace the text, with the cursor at its end."""
        self._pasted.clear()
        self.text = self._mark(text) if len(text) >= LARGE_PASTE else text
        self.move_cursor(self.document.end)

    async def _on_key(self, event: Key) -> None:
        if event.key in ("up", "down", "tab") and self.completing:
            self._take(event)
            self.post_message(self.CompletionAsked({"up": -1, "down": 1}.get(event.key, 0)))
        elif event.key == "enter":
            self._take(event)
            self.post_message(self.Submission(self.question()))
        elif event.key in ("ctrl+j", "shift+enter", "alt+enter"):
            self._take(event)
            self.insert("\n")
        elif event.key in ("home", "end") and not self.text:
            self._take(event)
            self.post_message(self.ScrollAsked(event.key))
        elif event.key == "up" and not self.text:
            self._take(event)
            self.post_message(self.EditAsked())
        else:
            await super()._on_key(event)

    async def _on_paste(self, event: Paste) -> None:
        text = printable(event.text)
        event.stop()
        event.prevent_default()
        if len(text) + sum(map(len, self._pasted.values())) > MOST_CHARACTERS:
            self.notify("The pasted text is too long.", severity="warning", markup=False)
            return
        self.insert(self._mark(text) if len(text) >= LARGE_PASTE else text)

    def _mark(self, text: str) -> str:
        mark = f"[pasted text {len(self._pasted) + 1}: {len(text):,} characters]"
        self._pasted[mark] = text
        return mark

    @staticmethod
    def _take(event: Key) -> None:
        event.stop()
        event.prevent_default()


class CompletionList(Static):
    """The completions of a command."""

    DEFAULT_CSS = "CompletionList { height: auto; padding: 0 2; display: none; color: $text-muted; }"

    def __init__(self, summary: Callable[[str], str]) -> None:
        super().__init__("", markup=False)
        self._summary = summary
        self._lines: list[str] = []
        self._place = 0

    @property
    def chosen(self) -> str | None:
        """The marked completion, or None."""
        return self._lines[self._place] if self._lines else None

    def list(self, lines: list[str]) -> None:
        """Show these completions. An empty list hides the widget."""
        if lines != self._lines:
            self._lines, self._place = lines, 0
        self._draw()

    def move(self, step: int) -> None:
        """Mark the completion before (-1) or after (1) the marked one."""
        if self._lines:
            self._place = (self._place + step) % len(self._lines)
            self._draw()

    def _draw(self) -> None:
        self.display = bool(self._lines)
        first = max(0, self._place - _LISTED + 1)
        content = Content("\n").join(
            Content.styled(self._line(line), "reverse" if first + place == self._place else "")
            for place, line in enumerate(self._lines[first : first + _LISTED])
        )
        self.update(content)

    def _line(self, line: str) -> str:
        return f"{line}  {self._summary(line)}".rstrip()
