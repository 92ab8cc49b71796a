"""Markdown that grows without bound, in sections: only the sections near the view have widgets."""

from __future__ import annotations

from typing import Any, cast

from markdown_it import MarkdownIt
from textual.app import App, ComposeResult
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Markdown, Static

from turnstream.terminal.printable import printable
from turnstream.terminal.sections import SectionSplitter
from turnstream.terminal.widgets.tall import TallWidget

_DRAWN_AT_END = 4
"""Sections at the end that are drawn as soon as they come."""
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


class TextSection:
    """A section of a text. `view`: its widget, or None while it is far from the view."""

    __slots__ = ("_height", "source", "view")

    def __init__(self, source: str) -> None:
        self.source = source
        self.view: AnswerMarkdown | None = None
        self._height = 0

    def height(self, width: int) -> int:
        """Return the lines of the section: measured, or estimated for a text of `width` columns."""
        if self.view is not None and self.view.size.height:
            self._height = self.view.size.height
        if not self._height:
            lines = self.source.splitlines()
            self._height = sum(max(1, -(-len(line) // max(width, 1))) for line in lines)
        return self._height

    def forget_height(self) -> None:
        """Measure or estimate the height again, for another width of the window."""
        self._height = 0


class SectionedText(TallWidget):
    """Growing Markdown text. A space above and a space below replace the sections far from the view."""

    DEFAULT_CSS = "SectionedText, SectionedText > .space { height: auto; layout: vertical; }"

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[TextSection] = []
        self._splitter = SectionSplitter()
        self._first = self._last = self._width = self._lines_above = 0
        self._above, self._below = Static("", classes="space"), Static("", classes="space")

    def compose(self) -> ComposeResult:
        yield self._above
        yield self._below

    def on_resize(self, event: Resize) -> None:
        if event.size.width != self._width:
            self._width = event.size.width
            for section in self.sections:
                section.forget_height()
            self._set_spaces()

    async def append(self, text: str) -> None:
        """Add text to the end. It is drawn if the end was drawn."""
        at_end = self._last == len(self.sections)
        for growth in self._splitter.feed(printable(text)):
            if growth.begins:
                self.sections.append(TextSection(growth.text))
                continue
            section = self.sections[-1]
            section.source += growth.text
            if section.view is not None:
                await section.view.append(growth.text)
        if at_end and self._last < len(self.sections):
            await self.show(max(self._first, len(self.sections) - _DRAWN_AT_END), len(self.sections))

    async def show_between(self, top: float, bottom: float) -> None:
        """Draw the sections between two lines of the text, and no others."""
        sections, width = self.sections, self.size.width
        first, y = self._first, self._lines_above
        while first > 0 and y > top:
            first -= 1
            y -= sections[first].height(width)
        while first < len(sections) and y + sections[first].height(width) <= top:
            y += sections[first].height(width)
            first += 1
        last = first
        while last < len(sections) and y < bottom:
            y += sections[last].height(width)
            last += 1
        if first < last:
            await self.show(first, last)
        elif sections:
            first = min(self._first, len(sections) - 1)
            await self.show(first, first + 1)

    async def show(self, first: int, last: int) -> None:
        """Draw the sections from `first` to `last` (exclusive), and no others."""
        if (first, last) == (self._first, self._last):
            return
        before = range(self._first, self._last)
        self._first, self._last = first, last
        for place in before:
            section = self.sections[place]
            if section.view is not None and not first <= place < last:
                section.height(self.size.width)
                view, section.view = section.view, None
                await view.remove()
        after: Widget = self._above
        for section in self.sections[first:last]:
            if section.view is None:
                section.view = AnswerMarkdown(section.source)
                await self.mount(section.view, after=after)
            after = section.view
        self._set_spaces()

    def _set_spaces(self) -> None:
        width = self.size.width
        self._lines_above = sum(section.height(width) for section in self.sections[: self._first])
        lines_below = sum(section.height(width) for section in self.sections[self._last :])
        for space, lines in ((self._above, self._lines_above), (self._below, lines_below)):
            space.display = lines > 0
            space.styles.height = max(lines, 1)
