"""The window: joins the conversation with the widgets, and the keys with the requests."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, NamedTuple

from textual import on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import MountError
from textual.widgets import TextArea

from turnstream.core.blocks import Block
from turnstream.errors import TurnstreamError
from turnstream.terminal.asking import Asking
from turnstream.terminal.command_runner import CommandRunner
from turnstream.terminal.keys import KEYS
from turnstream.terminal.printable import printable_line
from turnstream.terminal.screens import ChatsScreen, HelpScreen
from turnstream.terminal.server_connection import ServerConnection
from turnstream.terminal.shown_chat import ShownChat
from turnstream.terminal.slash_commands import COMMANDS, completions, parse
from turnstream.terminal.widgets.prompt import CompletionList, Prompt
from turnstream.terminal.widgets.status_line import StatusLine
from turnstream.terminal.widgets.transcript import Transcript
from turnstream.terminal.widgets.turn_widget import TurnWidget

CLOSE_SECONDS = 3.0
"""Seconds that requests in progress have when the window closes."""


class WindowOptions(NamedTuple):
    """Options of a window.

    Args:
        chat_id: The chat to open. None: an empty chat.
        update_interval: Shortest time between two draws, in seconds.
        animated: False for a window without movement.
        theme: A theme of Textual. None: one that fits the terminal.
        greeting: Text of an empty chat.
        attach: Reads a file or an address as a block, in a thread. None: nothing can be attached.
    """

    chat_id: str | None = None
    update_interval: float = 0.1
    animated: bool = True
    theme: str | None = None
    greeting: str = "Ask something. / lists the commands, /help the keys."
    attach: Callable[[str], Block] | None = None


class ChatApp(App[None]):
    """The chat window. `connection` belongs to the caller."""

    TITLE = "turnstream"
    CSS = "Screen { layout: vertical; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key.keys, key.action, key.summary, show=False, priority=True) for key in KEYS
    ]

    def __init__(
        self, connection: ServerConnection, asking: Asking, options: WindowOptions | None = None
    ) -> None:
        # Without colours, Textual would use shades of grey, unless the colours are the terminal's own.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.options = options or WindowOptions()
        self.conversation = ShownChat(connection, asking, self.note_change)
        self.transcript = Transcript(self.options.greeting, self.note_change)
        self.prompt = Prompt()
        self.status = StatusLine(self.conversation, animated=self.options.animated)
        self.commands = CommandRunner(self, self.options.attach)
        self.draws = 0
        """Number of draws."""
        self._completions = CompletionList(_summary_of)
        self._changed = asyncio.Event()
        self._editing: Any = None
        self._leaving = 0.0
        self._held: set[asyncio.Task[None]] = set()

    def compose(self) -> ComposeResult:
        yield self.transcript
        yield self._completions
        yield self.prompt
        yield self.status

    def on_mount(self) -> None:
        if self.options.theme is not None:
            self.theme = self.options.theme
        elif self.no_color or self.console.color_system in (None, "standard"):
            self.theme = "ansi-dark"
        self.animation_level = "full" if self.options.animated else "none"
        self.prompt.cursor_blink = self.options.animated
        self.prompt.focus()
        self.run_worker(self.conversation.follow(), name="follow")
        self.run_worker(self._draw_changes(), name="draw")
        self.request(self._open(self.options.chat_id))
        self.request(self.commands.load_choices())

    async def _open(self, chat_id: str | None) -> None:
        await self.conversation.open(chat_id)
        self.transcript.anchor()
        self.prompt.focus()

    # -- drawing ---------------------------------------------------------------------------------------------

    def note_change(self) -> None:
        """Have the window drawn again."""
        self._changed.set()

    async def _draw_changes(self) -> None:
        """Draw at most once per interval. After the last change there is always a draw."""
        conversation = self.conversation
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = time.monotonic()
            turns = tuple(conversation.turns)  # more may come during the draw
            has_older = conversation.previous is not None
            try:
                await self.transcript.draw(turns, conversation.order, has_older=has_older)
            except MountError:
                if self.is_running:
                    raise
                return  # the window closes, and removes its widgets
            self.status.show()
            self.draws += 1
            conversation.drawn.set()
            spent = time.monotonic() - began
            await asyncio.sleep(max(self.options.update_interval - spent, 0.0))

    # -- requests --------------------------------------------------------------------------------------------

    def request(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something with the server, and show its failure as a notice. The window stays usable."""

        async def attempt() -> None:
            try:
                await work
            except TurnstreamError as error:
                self.tell(error.message, severity="error")

        self.run_worker(attempt(), exit_on_error=True)

    def act(self, action: str) -> None:
        """Do what a key does."""
        self.run_worker(self.run_action(action))

    def tell(self, text: str, *, severity: Any = "information") -> None:
        """Show a notice for a few seconds."""
        self.notify(printable_line(text, 500), severity=severity, markup=False)

    @on(Prompt.Submission)
    def _submit(self, event: Prompt.Submission) -> None:
        text = event.text
        if not text.strip():
            return
        if (given := parse(text)) is not None:
            self.prompt.fill("")
            self.request(self.commands.run(given, text))
            return
        if self.conversation.running is not None or self.conversation.sending:
            self.tell("The answer is still streaming: Esc stops it.", severity="warning")
            return
        self.prompt.fill("")
        self.request(self._send(text.removeprefix("/") if text.startswith("//") else text))

    async def _send(self, text: str) -> None:
        edited, self._editing, self.status.editing = self._editing, None, False
        content = self.commands.content_of(text)
        self.transcript.anchor()
        try:
            if edited is not None:
                await self.conversation.edit(edited, content)
            else:
                await self.conversation.send(content)
        except TurnstreamError:
            if not self.prompt.text:
                self.prompt.fill(text)
            raise
        self.commands.clear_attachments()

    # -- keys ------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Esc: close the completions, cancel the edit, or stop the answer."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        elif self._completions.chosen is not None:
            self._complete([])
        elif self._editing is not None:
            self._editing, self.status.editing = None, False
            self.prompt.fill("")
            self.status.show()
        elif self.conversation.running is not None:
            self.request(self.conversation.stop())

    def action_stop_or_leave(self) -> None:
        """Ctrl-C: copy a selection, stop the answer, clear the prompt, or close the window."""
        selected = self.screen.get_selected_text() or self.prompt.selected_text
        if selected:
            self._copy(selected)
            self.screen.clear_selection()
        elif len(self.screen_stack) > 1:
            self.pop_screen()
        elif self.conversation.running is not None:
            self.request(self.conversation.stop())
        elif self.prompt.text:
            self.prompt.fill("")
        elif time.monotonic() - self._leaving < 2.0:
            self.exit()
        else:
            self._leaving = time.monotonic()
            self.tell("Ctrl+C again closes the window.")

    @on(Prompt.EditAsked)
    def action_edit_last(self) -> None:
        """Put the last question into the prompt. Sending it begins another branch."""
        turns = self.conversation.turns
        question = next((turn for turn in reversed(turns) if turn.role == "user" and turn.turn_id), None)
        if question is None or self.conversation.running is not None:
            return
        self._editing, self.status.editing = question, True
        self.prompt.fill(question.text())
        self.status.show()

    def action_regenerate(self) -> None:
        """Ask for another answer."""
        last = self.conversation.last_answer
        if last is None:
            self.tell("There is no answer yet.")
        else:
            self.transcript.anchor()
            self.request(self.conversation.regenerate(last))

    def action_branch(self, step: int) -> None:
        """Show the branch before or after, at the last turn that has several."""
        turns = self.conversation.turns
        turn = next((turn for turn in reversed(turns) if len(turn.siblings) > 1), None)
        if turn is None:
            self.tell("This chat has one branch.")
        else:
            self.request(self._show_branch(turn, step))

    @on(TurnWidget.BranchAsked)
    def _branch_asked(self, event: TurnWidget.BranchAsked) -> None:
        self.request(self._show_branch(event.state, event.step))

    async def _show_branch(self, turn: Any, step: int) -> None:
        if not await self.conversation.show_sibling(turn, step):
            self.tell("There is no branch further on.")

    def action_new_chat(self) -> None:
        self.request(self._open(None))

    def action_chats(self) -> None:
        """Choose another chat."""

        def opened(chat_id: str | None) -> None:
            if chat_id is not None:
                self.request(self._open(chat_id))

        if len(self.screen_stack) == 1:
            self.push_screen(ChatsScreen(self.conversation.connection), opened)

    def action_thinking(self) -> None:
        """Fold or open all thinking."""
        self.transcript.set_folded(folded=not self.transcript.folded)
        self.note_change()

    def action_copy_answer(self) -> None:
        """Copy the last answer."""
        last = self.conversation.last_answer
        if last is None or not (text := last.text()):
            self.tell("There is no answer yet.")
        else:
            self._copy(text)

    def action_approve(self, approved: bool) -> None:  # noqa: FBT001 - an action of a key
        """Answer the first open approval request."""
        running = self.conversation.running
        if running is None or not running.fold.approvals:
            self.tell("No tool waits for an approval.")
            return
        approval_id = next(iter(running.fold.approvals))
        self.request(self.conversation.approve(running, approval_id, approved=approved))

    def action_scroll(self, where: str) -> None:
        """Scroll the transcript."""
        getattr(self.transcript, f"scroll_{where}")(animate=False)
        self._changed.set()
        if where == "home" and self.conversation.previous is not None and self.transcript.scroll_y == 0:
            self.request(self.conversation.load_older())

    @on(Prompt.ScrollAsked)
    def _scroll_asked(self, event: Prompt.ScrollAsked) -> None:
        self.action_scroll(event.where)

    def action_help(self) -> None:
        if len(self.screen_stack) == 1:
            self.push_screen(HelpScreen())

    def _copy(self, text: str) -> None:
        self.copy_to_clipboard(text)
        self.tell(f"{len(text):,} characters copied.")

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Return the commands of the palette: the keys, and Textual's own."""
        yield from super().get_system_commands(screen)  # pyright: ignore[reportUnknownMemberType]
        for key in KEYS:
            if not key.hidden:
                yield SystemCommand(key.summary, f"key: {key.shown}", self._runner(key.action))

    def _runner(self, action: str) -> Any:
        return lambda: self.act(action)

    # -- completions -----------------------------------------------------------------------------------------

    @on(TextArea.Changed)
    def _prompt_changed(self) -> None:
        text = self.prompt.text
        lines = completions(text, self.commands.choices()) if len(text) < 200 else []
        self._complete([line for line in lines if line != text])

    @on(Prompt.CompletionAsked)
    def _completion_asked(self, event: Prompt.CompletionAsked) -> None:
        if event.step:
            self._completions.move(event.step)
        elif (chosen := self._completions.chosen) is not None:
            takes_argument = any(chosen == f"/{command.name}" and command.argument for command in COMMANDS)
            self.prompt.fill(f"{chosen} " if takes_argument else chosen)

    def _complete(self, lines: list[str]) -> None:
        self._completions.list(lines)
        self.prompt.completing = bool(lines)


def _summary_of(line: str) -> str:
    return next(
        (
            f"{command.argument}  {command.summary}".strip()
            for command in COMMANDS
            if line == f"/{command.name}"
        ),
        "",
    )
