"""Streams of other libraries as sources of a turn, which makes them durable and resumable.

    turn = await engine.start(from_openai_chat(client.chat.completions.create(..., stream=True)))
    return await turn.response(request)

Each adapter takes what the library gives (an async iterator, a context manager around one, or the coroutine that makes either: then the
call is made in the turn's own task) and yields lists of StreamEvents. What it was given is closed when the turn ends.
None of the libraries is imported here: an adapter goes by the shape of what it reads.
"""

from __future__ import annotations

from turnstream.adapters.langgraph import from_langgraph
from turnstream.adapters.openai_agents import from_openai_agents
from turnstream.adapters.provider_sdks import (
    from_anthropic,
    from_gemini,
    from_openai_chat,
    from_openai_responses,
)
from turnstream.adapters.pydantic_ai import from_pydantic_ai

__all__ = [
    "from_anthropic",
    "from_gemini",
    "from_langgraph",
    "from_openai_agents",
    "from_openai_chat",
    "from_openai_responses",
    "from_pydantic_ai",
]
