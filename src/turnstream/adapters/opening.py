"""Streams of other libraries, opened and closed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

ForeignStream: TypeAlias = Any
"""An async iterable of a library's events, an async context manager around one, or an awaitable of either."""


@asynccontextmanager
async def opened(stream: ForeignStream) -> AsyncGenerator[AsyncIterator[Any], None]:
    """Yield the events of `stream`, and close it at the end.

    Raises TypeError if it is not an async stream.
    """
    async with AsyncExitStack() as stack:
        if inspect.isawaitable(stream):
            stream = await stream
        if hasattr(stream, "__aenter__"):
            stream = await stack.enter_async_context(stream)
        if not hasattr(stream, "__aiter__"):
            raise TypeError(
                f"{type(stream).__name__} is not an async stream: use the async client of its library"
            )
        events: AsyncIterator[Any] = aiter(stream)
        if (close := getattr(events, "aclose", None)) is not None:
            stack.push_async_callback(close)
        yield events
