"""What a provider is to the engine: something that answers a model request with batches of StreamEvents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeAlias

from turnstream.core.stream_events import StreamEvent
from turnstream.wires.base import ModelRequest

Take: TypeAlias = Callable[[Sequence[StreamEvent]], bool]
"""Takes a batch at once, or answers False and takes nothing: then it has to be waited for."""


class PushSource(Protocol):
    """What batches may have beside `__anext__`, so that they need not be waited for one by one."""

    def push_to(self, take: Take) -> None:
        """Offer each batch that comes while `__anext__` waits to `take`, which must not raise. What it takes wakes
        nobody; what it does not is returned."""
        ...


class CalledModel(NamedTuple):
    """Whom a call goes to: `provider` by its name in the settings, `model` as the provider calls it."""

    provider: str
    model: str
    wire: str

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class Patience(NamedTuple):
    """Reasons to wait longer or shorter for a call. `thinks`: the model may be silent while it thinks; `replaceable`: another model
    can take over."""

    thinks: bool = False
    replaceable: bool = False


class AdjustableClocks(Protocol):
    """A method that a call may have: its clocks depend on what else can be done."""

    def wait_with(self, patience: Patience) -> None:
        """Choose the clocks that the settings leave open. To be called before the call is entered."""
        ...


class Provider(Protocol):
    """A seam: HTTP providers and the in-process simulator stand behind it."""

    name: str

    def stream(
        self, request: ModelRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]:
        """Make the call; it may be `AdjustableClocks`. Iterating yields what each read brought, never an empty batch, and ends
        after the model's end marker; the iterator may be `PushSource`. Raises ProviderError (from entering or from iterating). Leaving the context, or cancelling a
        read, closes the upstream connection at once unless it is already done with."""
        ...

    async def close(self) -> None:
        """Close idle connections; the provider is not used afterwards."""
        ...
