"""The line below the prompt: the state, the count, the model, and the cost."""

from __future__ import annotations

import time

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from turnstream.terminal.printable import printable_line
from turnstream.terminal.progress import FRAMES, cost_words, count_words, state_words
from turnstream.terminal.shown_chat import ShownChat

FRAME_SECONDS = 0.1


class StatusLine(Static):
    """The state of the conversation. Its indicator moves while an answer runs.

    Args:
        conversation: The conversation.
        animated: False for an indicator that does not move.
    """

    DEFAULT_CSS = """
    StatusLine {
        height: 1; color: $text-muted; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self, conversation: ShownChat, *, animated: bool) -> None:
        super().__init__("", markup=False)
        self.editing = False
        """True while the prompt has a question that will be edited."""
        self._conversation = conversation
        self._animated = animated
        self._shown = ""

    def on_mount(self) -> None:
        self.set_interval(FRAME_SECONDS, self.show)
        self.show()

    def show(self) -> None:
        """Draw the state as it is now."""
        text = self.text()
        if text != self._shown:
            self._shown = text
            self.update(Content(text))

    def text(self) -> str:
        """Return the line, cut to the width of the window."""
        conversation = self._conversation
        running = conversation.running
        busy = running is not None or conversation.sending
        seconds = time.monotonic() - conversation.began_at
        sign = self._indicator() if busy or not conversation.connected else "●"
        left = [
            f"{sign} {state_words(conversation)}",
            count_words(running, seconds) if self._animated else "",
            "editing, Esc keeps the old one" if self.editing else "",
        ]
        model = conversation.asking.model or (
            conversation.last_answer.model if conversation.last_answer is not None else None
        )
        right = [cost_words(conversation), printable_line(model or "", 60)]
        ends = " · ".join(filter(None, left)), " · ".join(filter(None, right))
        room = max(self.size.width - cell_len(ends[0]) - cell_len(ends[1]), 1)
        return printable_line(ends[0], 400) + " " * room + ends[1]

    def _indicator(self) -> str:
        return FRAMES[int(time.monotonic() / FRAME_SECONDS) % len(FRAMES)] if self._animated else FRAMES[0]
