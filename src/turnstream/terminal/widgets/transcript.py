"""The scrolled list of turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from textual import on
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from turnstream.terminal.transcript_turn import TranscriptTurn
from turnstream.terminal.widgets.sectioned_text import SectionedText
from turnstream.terminal.widgets.tall import TallWidget
from turnstream.terminal.widgets.thinking_view import ThinkingView
from turnstream.terminal.widgets.turn_widget import TurnWidget

MOST_DRAWN = 4
"""Sections of a text that are always drawn. In a longer text only those near the view are."""


class TurnColumn(Vertical, TallWidget):
    """The turns, one below the other."""


class Transcript(VerticalScroll, TallWidget):
    """The turns of the shown branch. It follows the end until the user scrolls up.

    Args:
        greeting: Text of an empty chat.
        on_change: Called when something must be drawn.
    """

    DEFAULT_CSS = """
    Transcript { height: 1fr; scrollbar-size-vertical: 1; }
    Transcript .older { height: auto; color: $text-muted; text-align: center; display: none; }
    Transcript .older.any { display: block; }
    Transcript > TurnColumn { height: auto; min-height: 100%; }
    Transcript .empty { height: auto; color: $text-muted; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, greeting: str, on_change: Callable[[], None]) -> None:
        super().__init__()
        self._on_change = on_change
        self._to_fold: dict[ThinkingView, bool] = {}
        self._folds_all = False
        self.folded = True
        """True if new thinking is folded."""
        self._views: dict[TranscriptTurn, TurnWidget] = {}
        self._order = -1
        self._older = Static("▲ Home again shows older turns", classes="older", markup=False)
        self._empty = Static(greeting, classes="empty", markup=False)
        self._column = TurnColumn(self._older, self._empty)  # fills the view: short chats begin at its top

    def compose(self) -> ComposeResult:
        yield self._column

    def on_mount(self) -> None:
        self.anchor()

    async def draw(self, turns: Sequence[TranscriptTurn], order: int, *, has_older: bool) -> None:
        """Draw what has changed.

        Args:
            turns: The turns of the branch.
            order: A number that changes if turns were added or removed.
            has_older: True if there are turns before the first one.
        """
        screen = self.screen
        size = screen.size
        app = cast("App[Any]", self.app)  # pyright: ignore[reportUnknownMemberType]
        with app.batch_update():  # the window is laid out once, not after each new widget
            if order != self._order:
                self._order = order
                await self._arrange_turns(turns)
                self._older.set_class(has_older, "any")
                self._empty.display = not turns
            for turn in turns:
                await self._views[turn].draw()
            await self._fold()
            await self.draw_near()
        if screen.size != size:
            screen.refresh()  # Textual drops the repaint of a resize within a batch
        screen.check_idle()

    async def _arrange_turns(self, turns: Sequence[TranscriptTurn]) -> None:
        gone = [turn for turn in self._views if turn not in turns]
        for turn in gone:
            await self._views.pop(turn).remove()
        before: TurnWidget | Static = self._empty
        fresh: list[TurnWidget] = []
        for turn in turns:
            if (view := self._views.get(turn)) is None:
                turn.redraw()
                self._views[turn] = view = TurnWidget(turn, folded=self.folded)
                fresh.append(view)
            else:
                await self._column.mount_all(fresh, after=before)
                fresh, before = [], view
        await self._column.mount_all(fresh, after=before)

    def set_folded(self, *, folded: bool) -> None:
        """Fold or open all thinking at the next draw, and all later thinking."""
        self.folded = folded
        self._folds_all = True

    @on(ThinkingView.FoldAsked)
    def _fold_asked(self, event: ThinkingView.FoldAsked) -> None:
        self._to_fold[event.view] = not event.view.folded
        self._on_change()

    async def _fold(self) -> None:
        """Fold and open thinking. Only a draw calls this, because it also adds text."""
        if self._folds_all:
            self._folds_all = False
            for turn in self._views.values():
                turn.fold_new(folded=self.folded)
                self._to_fold.update(dict.fromkeys(turn.thinking_views(), self.folded))
        changes, self._to_fold = self._to_fold, {}
        for view, folded in changes.items():
            if view.is_attached:
                await view.set_folded(folded=folded)

    async def draw_near(self) -> None:
        """Draw the sections of texts near the view, and leave a space for the others."""
        height = max(self.size.height, 1)
        for view in self._views.values():
            for text in view.texts():
                if len(text.sections) > MOST_DRAWN:
                    top = self.scroll_y - self._place_of(text)
                    await text.show_between(top - height / 2, top + 1.5 * height)

    def _place_of(self, text: SectionedText) -> float:
        """Return the line of the transcript at which a text begins."""
        y = 0.0
        node: Widget = text
        while node is not self:
            y += node.virtual_region.y
            parent = node.parent
            assert isinstance(parent, Widget)
            node = parent
        return y
