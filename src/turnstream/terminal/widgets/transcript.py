"""The scrolled list of turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from turnstream.terminal.transcript_turn import TranscriptTurn
from turnstream.terminal.widgets.sectioned_text import TextSection
from turnstream.terminal.widgets.turn_widget import TurnWidget

MOST_DRAWN = 40
"""Sections that have widgets. Above that, sections far from the view are folded."""


class Transcript(VerticalScroll):
    """The turns of the shown branch. It follows the end until the user scrolls up."""

    DEFAULT_CSS = """
    Transcript { height: 1fr; scrollbar-size-vertical: 1; }
    Transcript .older { height: auto; color: $text-muted; text-align: center; display: none; }
    Transcript .older.any { display: block; }
    Transcript > Vertical { height: auto; min-height: 100%; }
    Transcript .empty { height: auto; color: $text-muted; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, greeting: str) -> None:
        super().__init__()
        self.folded = True
        """True if new thinking is folded."""
        self._views: dict[TranscriptTurn, TurnWidget] = {}
        self._order = -1
        self._older = Static("▲ Home again shows older turns", classes="older", markup=False)
        self._empty = Static(greeting, classes="empty", markup=False)
        self._column = Vertical(self._older, self._empty)  # fills the view: short chats begin at its top

    def on_mount(self) -> None:
        self.mount(self._column)
        self.anchor()

    async def draw(self, turns: Sequence[TranscriptTurn], order: int, *, has_older: bool) -> None:
        """Draw what has changed.

        Args:
            turns: The turns of the branch.
            order: A number that changes if turns were added or removed.
            has_older: True if there are turns before the first one.
        """
        if order != self._order:
            self._order = order
            await self._arrange_turns(turns)
            self._older.set_class(has_older, "any")
            self._empty.display = not turns
        for turn in turns:
            await self._views[turn].draw()
        await self.draw_near()

    async def _arrange_turns(self, turns: Sequence[TranscriptTurn]) -> None:
        gone = [turn for turn in self._views if turn not in turns]
        for turn in gone:
            await self._views.pop(turn).remove()
        before: TurnWidget | Static = self._empty
        for turn in turns:
            view = self._views.get(turn)
            if view is None:
                turn.redraw()
                view = self._views[turn] = TurnWidget(turn, folded=self.folded)
                await self._column.mount(view, after=before)
            before = view

    async def set_folded(self, *, folded: bool) -> None:
        """Fold or open all thinking, and that which comes."""
        self.folded = folded
        for view in self._views.values():
            view.folded = folded
            for thinking in view.thinking_views():
                await thinking.set_folded(folded=folded)

    async def draw_near(self) -> None:
        """Draw the sections near the view, and fold those far from it if there are many."""
        sections = [section for view in self._views.values() for section in view.sections()]
        if len(sections) <= MOST_DRAWN and all(section.is_drawn for section in sections):
            return
        height = max(self.size.height, 1)
        top, bottom = self.scroll_y - 2 * height, self.scroll_y + 3 * height
        drawn = sum(section.is_drawn for section in sections)
        for section in sections:
            y = self._place_of(section)
            near = y < bottom and y + section.virtual_region.height > top
            if near and not section.is_drawn:
                await section.draw()
            elif not near and section.is_drawn and drawn > MOST_DRAWN and section is not sections[-1]:
                await section.fold(self.size.width)
                drawn -= 1

    def _place_of(self, section: TextSection) -> float:
        """Return the line of the transcript at which a section begins."""
        y = 0.0
        node: Widget = section
        while node is not self:
            y += node.virtual_region.y
            parent = node.parent
            assert isinstance(parent, Widget)
            node = parent
        return y
