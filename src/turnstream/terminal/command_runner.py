"""Runs the commands that begin with `/`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from turnstream.client.questions import Content
from turnstream.core.blocks import Block
from turnstream.errors import InvalidRequest, TurnstreamError
from turnstream.terminal.shown_chat import ShownChat
from turnstream.terminal.slash_commands import GivenCommand, parsed_params
from turnstream.terminal.transcript_turn import markdown_of


class Window(Protocol):
    """The window, or the plain mode, in which commands are given."""

    conversation: ShownChat

    def tell(self, text: str) -> None:
        """Show a notice."""
        ...

    def act(self, action: str) -> None:
        """Do what a key does. `action`: new_chat, chats, help, regenerate or quit."""
        ...


class CommandRunner:
    """The commands of one window, and the attachments of its next question.

    `attach`: reads a file or an address, in a thread. Raises TurnstreamError. None: nothing can be attached.
    """

    def __init__(self, window: Window, attach: Callable[[str], Block] | None) -> None:
        self._window = window
        self._attach_file = attach
        self._attached: list[Block] = []
        self._models: list[str] = []

    async def load_choices(self) -> None:
        """Read the names of models, for completions."""
        models = await self._window.conversation.connection.ask(lambda client: client.models())
        self._models = [model.id for model in models if model.ready]

    def choices(self) -> dict[str, list[str]]:
        """Return the arguments that are completed, by the name of their command."""
        return {"model": self._models, "tools": ["all", "none"]}

    def content_of(self, text: str) -> Content:
        """Return the question with the attachments."""
        if not self._attached:
            return text
        return [Block(0, "text", text), *self._attached]

    def clear_attachments(self) -> None:
        """Forget the attachments, which were sent."""
        self._attached.clear()

    async def run(self, given: GivenCommand, line: str) -> None:
        """Run a command. Raises TurnstreamError if it fails."""
        match given.name:
            case "model":
                self._set_model(given.argument)
            case "system":
                self._ask_with(system=given.argument or None)
                self._window.tell(
                    "The system prompt is set." if given.argument else "The server's system prompt."
                )
            case "params":
                self._set_params(given.argument)
            case "tools":
                self._set_tools(given.argument)
            case "attach":
                await self._attach(given.argument)
            case "export":
                await self._export(given.argument)
            case "retry":
                self._window.act("regenerate")
            case "new":
                self._window.act("new_chat")
            case "chats" | "help" | "quit":
                self._window.act(given.name)
            case _:
                raise InvalidRequest(f"there is no command {line.split(maxsplit=1)[0]}: /help lists them")

    def _ask_with(self, **options: Any) -> None:
        conversation = self._window.conversation
        conversation.asking = conversation.asking._replace(**options)
        conversation.on_change()

    def _set_model(self, name: str) -> None:
        if not name:
            self._window.tell("Models: " + ", ".join(self._models))
            return
        self._ask_with(model=name)
        self._window.tell(f"The next answers are of {name}.")

    def _set_params(self, argument: str) -> None:
        try:
            params = parsed_params(argument)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        self._ask_with(params=params or None)
        self._window.tell(f"Params: {params}" if params else "The server's params.")

    def _set_tools(self, argument: str) -> None:
        names = argument.replace(",", " ").split()
        tools = None if names in ([], ["all"]) else [] if names == ["none"] else names
        self._ask_with(tools=tools)
        self._window.tell(
            "All tools of the server." if tools is None else f"Tools: {', '.join(tools) or 'none'}"
        )

    async def _attach(self, place: str) -> None:
        if not place or self._attach_file is None:
            raise InvalidRequest("name a file or an address: /attach FILE|URL")
        self._attached.append(await asyncio.to_thread(self._attach_file, place))
        self._window.tell(f"{len(self._attached)} attached: sent with the next question.")

    async def _export(self, place: str) -> None:
        if not place:
            raise InvalidRequest("name a file: /export FILE")
        conversation = self._window.conversation
        while await conversation.load_older():
            pass
        text = markdown_of(conversation.turns, conversation.title)
        try:
            path = await asyncio.to_thread(_write_new, place, text)
        except OSError as error:
            raise TurnstreamError(
                f"{place} cannot be written: {error.strerror}", code="not_written"
            ) from error
        self._window.tell(f"Written to {path}.")


def _write_new(place: str, text: str) -> Path:
    path = Path(place).expanduser()
    with path.open("x", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
