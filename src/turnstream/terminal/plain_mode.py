"""The chat as plain lines, for screen readers and for terminals that cannot move the cursor.

Text is written once and never moved. Each line about the state begins a line of its own.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TextIO

from turnstream.core.blocks import Block
from turnstream.errors import TurnstreamError
from turnstream.terminal.asking import Asking
from turnstream.terminal.block_summary import summary_of
from turnstream.terminal.command_runner import CommandRunner
from turnstream.terminal.printable import printable, printable_line
from turnstream.terminal.progress import cost_words
from turnstream.terminal.server_connection import ServerConnection
from turnstream.terminal.shown_chat import ShownChat
from turnstream.terminal.slash_commands import COMMANDS, parse
from turnstream.terminal.think_text import ThinkText
from turnstream.terminal.transcript_turn import GrowingBlock, TranscriptTurn
from turnstream.terminal.widgets.tool_card import pretty_arguments


class PlainChat:
    """Reads questions line by line, and writes answers as they come.

    Args:
        connection: The server. It belongs to the caller.
        asking: Options of questions.
        attach: As in `WindowOptions`.
        lines: Input with the questions.
        output: Output of everything.
    """

    def __init__(
        self,
        connection: ServerConnection,
        asking: Asking,
        *,
        attach: Callable[[str], Block] | None = None,
        lines: TextIO = sys.stdin,
        output: TextIO = sys.stdout,
    ) -> None:
        self._changed = asyncio.Event()
        self.conversation = ShownChat(connection, asking, self._changed.set)
        self._commands = CommandRunner(self, attach)
        self._lines = lines
        self._output = output
        self._quit = False
        self._at_line_start = True
        self._stopping: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def run(self, chat_id: str | None = None) -> None:
        """Chat until the input ends or `/quit`. `chat_id`: the chat to open. None: an empty chat."""
        loop = asyncio.get_running_loop()
        following = self._following = loop.create_task(self.conversation.follow(), name="follow")
        following.add_done_callback(lambda _: self._changed.set())
        loop.add_signal_handler(signal.SIGINT, self._stop_answer)
        try:
            await self.conversation.open(chat_id)
            await self._commands.load_choices()
            for turn in self.conversation.turns:
                await self._speak(turn)
            self.tell("Type a question and Enter. /help lists the commands. Ctrl+C stops an answer.")
            while not self._quit and (line := await asyncio.to_thread(self._lines.readline)):
                await self._take(line.rstrip("\n"))
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            following.cancel()
            await asyncio.wait({following, *([self._stopping] if self._stopping else [])})

    def tell(self, text: str) -> None:
        """Write a line about the state."""
        before = "" if self._at_line_start else "\n"
        self._write(f"{before}[{printable_line(text, 500)}]\n")

    def act(self, action: str) -> None:
        """Do what a key of the window does."""
        if action == "quit":
            self._quit = True
        elif action == "help":
            for command in COMMANDS:
                self._write(f"/{command.name} {command.argument}: {command.summary}\n")
        else:
            self.tell(f"/{action} is not possible with plain lines")

    async def _take(self, line: str) -> None:
        given = parse(line)
        if given is None and not line.strip():
            return
        if given is None:
            await self._attempt(self._ask(line))
        elif given.name == "retry" and (last := self.conversation.last_answer) is not None:
            await self._attempt(self.conversation.regenerate(last))
            await self._speak_last()
        elif given.name == "new":
            await self._attempt(self.conversation.open(None))
            self.tell("A new chat.")
        else:
            await self._attempt(self._commands.run(given, line))

    async def _ask(self, line: str) -> None:
        await self.conversation.send(self._commands.content_of(line))
        self._commands.clear_attachments()
        await self._speak_last()

    async def _attempt(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TurnstreamError as error:
            self.tell(f"Failed: {error.message}")

    async def _speak_last(self) -> None:
        if (turn := self.conversation.last_answer) is not None:
            await self._speak(turn)

    async def _speak(self, turn: TranscriptTurn) -> None:
        """Write a turn until its end."""
        spoken = SpokenTurn(turn)
        lost = named = False
        while True:
            self._changed.clear()
            if (text := spoken.growth()) and not named:
                named = True
                speaker = "You" if turn.role == "user" else turn.model or "Answer"
                before = "" if self._at_line_start else "\n"
                self._write(f"{before}{printable_line(speaker)}:\n")
            self._write(text)
            self.conversation.drawn.set()
            if turn.ended:
                break
            if turn.fold.approvals:
                await self._answer_approval(turn)
                continue
            if self.conversation.problem is not None:
                self.tell(self.conversation.problem)
                return
            if self._following is not None and self._following.done():
                await self._following
            if lost == self.conversation.connected:
                lost = not lost
                self.tell("Connection lost, reconnecting." if lost else "Connected again.")
            await self._changed.wait()
        if turn.role == "assistant":
            self.tell(_end_of(turn) + (f" {words}." if (words := cost_words(self.conversation)) else ""))

    async def _answer_approval(self, turn: TranscriptTurn) -> None:
        approval_id, request = next(iter(turn.fold.approvals.items()))
        self.tell(f"May the tool {request['tool_name']} run? Type yes and Enter to approve, no to deny.")
        answer = (await asyncio.to_thread(self._lines.readline)).strip().lower()
        if answer not in ("yes", "no", ""):
            self.tell("Neither yes nor no.")
            return
        await self._attempt(self.conversation.approve(turn, approval_id, approved=answer == "yes"))
        turn.fold.approvals.pop(approval_id, None)

    def _stop_answer(self) -> None:
        if self.conversation.running is None:
            self.tell("Nothing runs. /quit ends the chat.")
        elif self._stopping is None or self._stopping.done():
            self._stopping = asyncio.ensure_future(self._attempt(self.conversation.stop()))

    def _write(self, text: str) -> None:
        if text:
            self._at_line_start = text.endswith("\n")
        self._output.write(text)
        self._output.flush()


class SpokenTurn:
    """The lines of one turn. Retracted text is announced, because written text stays."""

    def __init__(self, turn: TranscriptTurn) -> None:
        self._turn = turn
        self._thinking: dict[int, ThinkText] = {}
        self._written: dict[int, tuple[int, str]] = {}
        self._notes = self._sources = 0
        self._kind = ""
        turn.redraw()

    def growth(self) -> str:
        """Return the text that was not returned before."""
        turn = self._turn
        parts: list[str] = []
        for index in sorted(turn.take_changes()):
            block = turn.blocks.get(index)
            if block is None:
                parts.append("\n[The text above is retracted.]\n")
                self._written.pop(index, None)
            else:
                parts.append(self._growth_of(block, self._new_text(block)))
        parts += [f"\n[{printable_line(note.text)}]\n" for note in list(turn.notes)[self._notes :]]
        self._notes = len(turn.notes)
        links = list(turn.sources.values())[self._sources :]
        parts += [
            f"\n[Source: {printable_line(link.title)} {printable_line(link.url, 2000)}]\n" for link in links
        ]
        self._sources = len(turn.sources)
        return "".join(parts)

    def _new_text(self, block: GrowingBlock) -> str:
        """Return the text of a block that was not written. A catch-up repeats what was."""
        text = block.take_text()
        version, written = self._written.get(block.index, (block.version, ""))
        if version != block.version:
            if text.startswith(written):
                text = text[len(written) :]
            else:
                written = ""
                self._thinking.pop(block.index, None)
                text = f"\n[This replaces the text above.]\n{text}"
        self._written[block.index] = (block.version, written + text)
        return text

    def _growth_of(self, block: GrowingBlock, text: str) -> str:
        if block.kind == "text":
            split = self._thinking.setdefault(block.index, ThinkText())
            pieces = split.feed(text) + (split.close() if block.stopped else [])
            return "".join(
                self._headed("thinking" if piece.thinking else "text", printable(piece.text))
                for piece in pieces
            )
        if block.kind == "thinking":
            return self._headed("thinking", printable(text))
        if block.kind == "tool_use" and block.stopped:
            folded = self._turn.block(block.index)
            content = {} if folded is None else folded.content or {}
            name = printable_line(str(content.get("tool_name") or "tool"))
            return f"\n[Tool {name}]\n{pretty_arguments(str(content.get('input_json') or ''))}\n"
        folded = self._turn.block(block.index) if block.stopped else None
        summary = None if folded is None else summary_of(folded)
        return f"\n{printable(summary)}\n" if summary else ""

    def _headed(self, kind: str, text: str) -> str:
        if not text or kind == self._kind:
            return text
        before, self._kind = self._kind, kind
        if kind == "thinking":
            return f"[Thinking] {text}"
        return f"\n[Answer] {text}" if before else text


def _end_of(turn: TranscriptTurn) -> str:
    if turn.failure is not None:
        return f"Streaming failed: {turn.failure}"
    return "Stopped." if turn.status == "cancelled" else "Ready."
