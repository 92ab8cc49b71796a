"""Windows over the window: the chats, and the help."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from turnstream.client import Chat
from turnstream.errors import TurnstreamError
from turnstream.terminal.keys import KEYS, PROMPT_KEYS
from turnstream.terminal.printable import printable_line
from turnstream.terminal.server_connection import ServerConnection
from turnstream.terminal.slash_commands import COMMANDS

SEARCH_SECONDS = 0.2
"""Seconds without a key before a search is sent."""


class ChatsScreen(ModalScreen[str | None]):
    """A list of chats, with a search. Its result is the id of the chosen chat, or None."""

    DEFAULT_CSS = """
    ChatsScreen { align: center middle; }
    ChatsScreen > Vertical { width: 80%; height: 80%; border: round $primary; background: $surface; }
    ChatsScreen OptionList { height: 1fr; border: none; text-wrap: nowrap; text-overflow: ellipsis; }
    ChatsScreen Static { height: 1; color: $text-muted; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, connection: ServerConnection) -> None:
        super().__init__()
        self._connection = connection
        self._found: list[Chat] = []
        self._list = OptionList(markup=False)
        self._search = Input(placeholder="Search titles and texts")
        self._note = Static("", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._search
            yield self._list
            yield self._note

    def on_mount(self) -> None:
        self._search.focus()
        self._find("")

    @on(Input.Changed)
    def _search_changed(self, event: Input.Changed) -> None:
        self._find(event.value)

    def _find(self, text: str) -> None:
        self.run_worker(self._read(text.strip()[:200]), exclusive=True, group="search")

    async def _read(self, text: str) -> None:
        if text:
            await asyncio.sleep(SEARCH_SECONDS)
        try:
            page = await self._connection.ask(
                lambda client: client.chats.list(limit=100, search=text or None)
            )
        except TurnstreamError as error:
            self._note.update(Content(printable_line(error.message)))
            return
        self._found = page.chats
        self._list.clear_options()
        self._list.add_options([Option(Content(_line(chat)), id=chat.id) for chat in page.chats])
        if page.chats:
            self._list.highlighted = 0
        more = "" if page.next is None else ", and older ones: search for them"
        chats = "chat" if len(page.chats) == 1 else "chats"
        self._note.update(Content(f"{len(page.chats)} {chats}{more}. ↑ ↓ choose, Enter opens, Esc closes."))

    @on(Input.Submitted)
    def _choose(self) -> None:
        if (place := self._list.highlighted) is not None and place < len(self._found):
            self.dismiss(self._found[place].id)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def key_down(self) -> None:
        self._list.action_cursor_down()

    def key_up(self) -> None:
        self._list.action_cursor_up()


def _line(chat: Chat) -> str:
    day = chat.updated_at[:16].replace("T", " ")
    return f"{day}  {printable_line(chat.title or 'without a title', 120)}"


class HelpScreen(ModalScreen[None]):
    """The keys and the commands."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 100%; max-width: 90; height: 90%; border: round $primary; background: $surface; padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    """

    def compose(self) -> ComposeResult:
        keys = [*PROMPT_KEYS, *((key.shown, key.summary) for key in KEYS)]
        commands = [(f"/{command.name} {command.argument}", command.summary) for command in COMMANDS]
        lines = ["Keys", *_table(keys), "", "Commands", *_table(commands), "", "Esc closes this help."]
        with VerticalScroll():
            yield Static(Content("\n".join(lines)), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"  {left:<{width}}  {right}" for left, right in rows]
