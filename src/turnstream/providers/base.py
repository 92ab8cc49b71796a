"""What a provider is to the engine: something that answers a model request with batches of StreamEvents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from turnstream.core.stream_events import StreamEvent
from turnstream.wires.base import ModelRequest


class CalledModel(NamedTuple):
    """Whom a call goes to: `provider` by its name in the settings, `model` as the provider calls it."""

    provider: str
    model: str
    wire: str

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class Provider(Protocol):
    """A seam: HTTP providers and the in-process simulator stand behind it."""

    name: str

    def stream(
        self, request: ModelRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]:
        """Make the call. Iterating yields what each read brought, never an empty batch, and ends after the model's
        end marker. Raises ProviderError (from entering or from iterating). Leaving the context, or cancelling a
        read, closes the upstream connection at once unless it is already done with."""
        ...

    async def close(self) -> None:
        """Close idle connections; the provider is not used afterwards."""
        ...
