"""The state of the conversation in words: what the model does, how much has come, what it costs."""

from __future__ import annotations

from turnstream.terminal.printable import printable_line
from turnstream.terminal.shown_chat import ShownChat
from turnstream.terminal.transcript_turn import TranscriptTurn

COUNT_SECONDS = 3.0
"""Seconds after which the count and the speed of an answer are shown."""
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
"""Frames of the indicator of a running answer."""


def state_words(conversation: ShownChat) -> str:
    """Return the state: `Ready`, `Streaming…`, `Thinking…`, `Streaming failed: …`, or another in words."""
    if conversation.problem is not None:
        return printable_line(conversation.problem)
    if not conversation.connected:
        return "Connection lost: reconnecting…"
    running = conversation.running
    if running is None and not conversation.sending:
        last = conversation.last_answer
        failed = last is not None and last.failure is not None and last is conversation.turns[-1]
        return f"Streaming failed: {printable_line(last.failure or '')}" if failed and last else "Ready"
    match "streaming" if running is None else running.activity:
        case "thinking":
            return "Thinking…"
        case "waiting":
            return "Waiting for your approval"
        case "retrying" if running is not None and running.recovery is not None:
            word = "Falling back" if running.recovery.code == "fallback" else "Retrying"
            return f"{word}… {printable_line(running.recovery.text, 80)}"
        case "tool" if running is not None and running.tool_name:
            return f"Running {printable_line(running.tool_name, 40)}…"
        case _:
            stage = None if running is None else running.stage
            return "Streaming…" if stage is None else f"Streaming… {printable_line(stage.text, 60)}"


def count_words(turn: TranscriptTurn | None, seconds: float) -> str:
    """Return the count and the speed of a running answer. Empty during its first `COUNT_SECONDS`.

    `seconds`: age of the answer.
    """
    if turn is None or seconds < COUNT_SECONDS:
        return ""
    return f"{turn.characters:,} characters, {turn.characters / seconds:,.0f}/s"


def cost_words(conversation: ShownChat) -> str:
    """Return the cost of the last answer, and its tokens. Empty if neither is known."""
    last = conversation.last_answer
    if last is None:
        return ""
    tokens = last.output_tokens
    counted = "" if tokens is None else f"{tokens:,} token{'' if tokens == 1 else 's'}"
    cost = f"${_cents(last.cost)}" if last.cost is not None else "no price" if last.unpriced else ""
    return ", ".join(filter(None, (counted, cost)))


def _cents(cost: str) -> str:
    """Return a cost without zeros at its end, but with cents."""
    dollars, _, rest = cost.partition(".")
    return f"{dollars}.{rest.rstrip('0'):0<2}"
