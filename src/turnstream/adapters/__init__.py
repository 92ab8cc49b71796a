"""Streams of other libraries as sources of a turn, which makes them durable and resumable.

    turn = await engine.start(from_openai_chat(client.chat.completions.create(..., stream=True)))
    return await turn.response(request)

An adapter accepts an async iterator, an async context manager around one, or a coroutine that returns either.
It awaits a coroutine, and so makes the call, in the turn's own task. It yields lists of StreamEvents, and
closes its source when the turn ends. No adapter imports its library: it relies on the shape of the events.
"""

from __future__ import annotations

from turnstream.adapters.aws_sdks import from_bedrock
from turnstream.adapters.langgraph import from_langgraph
from turnstream.adapters.openai_agents import from_openai_agents
from turnstream.adapters.provider_sdks import (
    from_anthropic,
    from_gemini,
    from_ollama,
    from_openai_chat,
    from_openai_responses,
)
from turnstream.adapters.pydantic_ai import from_pydantic_ai

__all__ = [
    "from_anthropic",
    "from_bedrock",
    "from_gemini",
    "from_langgraph",
    "from_ollama",
    "from_openai_agents",
    "from_openai_chat",
    "from_openai_responses",
    "from_pydantic_ai",
]
