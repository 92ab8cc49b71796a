"""Markdown that grows without bound, in sections: only the sections near the view have widgets."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from markdown_it import MarkdownIt
from textual.app import App
from textual.widget import Widget
from textual.widgets import Markdown

from turnstream.terminal.printable import printable
from turnstream.terminal.sections import SectionSplitter

_ADDRESSES = ("https://", "http://", "mailto:")


class AnswerMarkdown(Markdown):
    """Markdown of a model. It shows HTML as text, and opens only links of the web."""

    DEFAULT_CSS = "AnswerMarkdown { padding: 0; margin: 0; }"

    def __init__(self, source: str) -> None:
        super().__init__(source, parser_factory=_parser, open_links=False)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        if event.href.startswith(_ADDRESSES):
            cast("App[Any]", self.app).open_url(event.href)  # pyright: ignore[reportUnknownMemberType]
        else:
            self.notify(f"not opened: {printable(event.href)}", severity="warning", markup=False)


def _parser() -> MarkdownIt:
    return MarkdownIt("gfm-like", {"html": False})


class TextSection(Widget):
    """A section of a text. Out of view it is only a space of the same height."""

    DEFAULT_CSS = "TextSection { height: auto; layout: vertical; }"

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._markdown: AnswerMarkdown | None = None

    @property
    def is_drawn(self) -> bool:
        return self._markdown is not None

    async def grow(self, text: str) -> None:
        """Add text to the end."""
        self.source += text
        if self._markdown is not None:
            await self._markdown.append(text)

    async def draw(self) -> None:
        """Draw the section, if it is not drawn."""
        if self._markdown is None:
            self._markdown = AnswerMarkdown(self.source)
            await self.mount(self._markdown)
            self.styles.height = "auto"

    async def fold(self, width: int) -> None:
        """Leave a space instead. `width`: columns of the text, for the height of a section never drawn."""
        markdown, self._markdown = self._markdown, None
        if markdown is None:
            self.styles.height = _estimated_height(self.source, width)
            return
        self.styles.height = max(self.size.height, 1)
        await markdown.remove()


def _estimated_height(source: str, width: int) -> int:
    return sum(max(1, -(-len(line) // max(width, 1))) for line in source.splitlines()) or 1


class SectionedText(Widget):
    """A growing Markdown text."""

    DEFAULT_CSS = "SectionedText { height: auto; layout: vertical; }"

    MOST_DRAWN: ClassVar[int] = 3
    """Sections at the end that are drawn when they come. `Transcript` draws and folds the others."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[TextSection] = []
        self._splitter = SectionSplitter()

    async def append(self, text: str) -> None:
        """Add text to the end."""
        begun: list[TextSection] = []
        for growth in self._splitter.feed(printable(text)):
            if growth.begins:
                begun.append(TextSection(growth.text))
            elif begun:
                begun[-1].source += growth.text
            else:
                await self.sections[-1].grow(growth.text)
        if not begun:
            return
        self.sections += begun
        await self.mount_all(begun)
        for section in begun[: -self.MOST_DRAWN]:
            await section.fold(self.size.width)
        for section in begun[-self.MOST_DRAWN :]:
            await section.draw()
