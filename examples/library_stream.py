"""Ask a model, with a tool, and show the answer while it comes.

python examples/library_stream.py anthropic/claude-sonnet-5-5 "What is the weather in Vienna?"

Without a model's name a simulated one answers, which needs no key.
"""

# pyright: strict

from __future__ import annotations

import asyncio
import sys

import turnstream as ts


async def weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: Where.
        days: For how many days.
    """
    return f"{city}: sunny for {days} days"


async def ask(model: str, question: str) -> ts.ModelMessage[None]:
    llm = ts.LLM(model)
    async with llm.stream(question, tools=[weather], system="Answer in one sentence.") as stream:
        async for text in stream.text:
            print(text, end="", flush=True)
        message = await stream.final_message()
    print(f"\n[{message.stop_reason}, {len(message.steps)} calls, {message.usage}, {message.cost} dollars]")
    return message


async def main(model: str, question: str) -> int:
    try:
        await ask(model, question)
    except ts.TurnstreamError as error:
        print(f"\n{error.code}: {error}", file=sys.stderr)
        if error.partial is not None and error.partial.text:
            print(f"until then: {error.partial.text}", file=sys.stderr)
        return 75 if error.retryable else 1
    return 0


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "sim/tools"
    asked = sys.argv[2] if len(sys.argv) > 2 else "What is the weather in Vienna?"
    sys.exit(asyncio.run(main(chosen, asked)))
