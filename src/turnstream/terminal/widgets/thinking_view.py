"""A model's thinking, folded to one line until the user opens it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from turnstream.terminal.widgets.sectioned_text import SectionedText
from turnstream.terminal.widgets.tall import TallWidget


class ThinkingView(TallWidget):
    """Thinking. Folded, it needs no widgets for its text."""

    DEFAULT_CSS = """
    ThinkingView { height: auto; layout: vertical; color: $text-muted; }
    ThinkingView > .head { height: 1; text-style: italic; }
    ThinkingView > SectionedText { padding-left: 2; }
    """

    class FoldAsked(Message):
        """The user wants to fold or open this thinking."""

        def __init__(self, view: ThinkingView) -> None:
            super().__init__()
            self.view = view

    def __init__(self, *, folded: bool) -> None:
        super().__init__()
        self.folded = folded
        self._parts: list[str] = []
        self._length = 0
        self._ended = False
        self.text: SectionedText | None = None
        """The opened text, or None while it is folded."""
        self._head = Static("", classes="head", markup=False)

    def compose(self) -> ComposeResult:
        yield self._head

    async def on_mount(self) -> None:
        self._update_head()
        if not self.folded:
            await self._open()

    def on_click(self, event: Click) -> None:
        if event.widget is self._head:
            self.post_message(self.FoldAsked(self))

    async def append(self, text: str) -> None:
        """Add text to the end."""
        self._parts.append(text)
        self._length += len(text)
        self._update_head()
        if self.text is not None:
            await self.text.append(text)

    def end(self) -> None:
        """Show that the thinking has ended."""
        self._ended = True
        self._update_head()

    async def set_folded(self, *, folded: bool) -> None:
        """Fold or open the text."""
        self.folded = folded
        self._update_head()
        if folded and self.text is not None:
            text, self.text = self.text, None
            await text.remove()
        elif not folded and self.text is None and self.is_attached:
            await self._open()

    async def _open(self) -> None:
        self.text = SectionedText()
        await self.mount(self.text)
        self._parts = ["".join(self._parts)]
        await self.text.append(self._parts[0])

    def _update_head(self) -> None:
        sign = "▸" if self.folded else "▾"
        word = "Thought" if self._ended else "Thinking…"
        self._head.update(Content(f"{sign} {word} · {self._length:,} characters"))
