"""Events, a renderer and a filter of the program's own, and callbacks that receive the cost.

python examples/library_events.py anthropic/claude-sonnet-5-5 "Why is the sky blue?"

Without a model's name a simulated one answers, which needs no key.
"""

# pyright: strict

from __future__ import annotations

import asyncio
import sys
from typing import Any

import turnstream as ts


def terminal(event: ts.TurnEvent) -> str | None:
    """Return an event as text: text deltas unchanged, all other events in brackets."""
    match event:
        case ts.BlockDelta(block_type="text", field="text", value=text):
            return str(text)
        case ts.BlockStart(block_type="tool_use", content=content):
            return f"\n[calls {(content or {}).get('tool_name')}]\n"
        case ts.BlockStart(block_type="thinking"):
            return "[thinks]\n"
        case ts.ToolProgress(text=text):
            return f"[{text}]\n"
        case ts.Notice(message=message):
            return f"[{message}]\n"
        case _:
            return None


def quiet(event: ts.TurnEvent) -> ts.TurnEvent | None:
    """Leaves out what a model thinks."""
    thinks = isinstance(event, ts.BlockStart | ts.BlockDelta) and event.block_type == "thinking"
    return None if thinks else event


def told(message: ts.ModelMessage[Any], usage: ts.Usage, metrics: ts.StreamMetrics) -> None:
    """Called once the answer is whole."""
    speed = metrics.characters_per_second
    print(
        f"\n[{message.id}: {usage.output_tokens} tokens, {metrics.duration:.2f} s, {speed:.0f} characters/s]"
    )


async def look(what: str, context: ts.ToolContext) -> str:
    """Look something up."""
    context.progress(f"looking for {what}")
    return f"{what} was found"


async def main(model: str, question: str) -> int:
    callbacks = ts.Callbacks(on_complete=told, on_error=lambda error: print(f"\n[{error}]", file=sys.stderr))
    async with ts.LLM(model).stream(question, tools=[look], callbacks=callbacks) as stream:
        async for text in stream.render(terminal, quiet):
            print(text, end="", flush=True)
    return 0


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "sim/agent"
    asked = sys.argv[2] if len(sys.argv) > 2 else "Why is the sky blue?"
    sys.exit(asyncio.run(main(chosen, asked)))
