"""The seam to a provider: it answers a model request with batches of StreamEvents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeAlias

from turnstream.core.stream_events import StreamEvent
from turnstream.wires.base import ModelRequest

Take: TypeAlias = Callable[[Sequence[StreamEvent]], bool]
"""Takes a batch at once and returns True, or returns False. The batch must then be awaited."""


class PushSource(Protocol):
    """A call whose batches can be pushed, so that the reader need not await each of them."""

    def push_to(self, take: Take) -> None:
        """Offer to `take` each batch that arrives while `__anext__` waits. `take` must not raise.

        A batch that `take` accepts does not wake the reader. `__anext__` returns a batch that `take`
        does not accept.
        """
        ...


class CalledModel(NamedTuple):
    """The target of a call."""

    provider: str
    """Name of the provider in the settings."""
    model: str
    """Name of the model at the provider."""
    wire: str

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class Patience(NamedTuple):
    """Reasons to wait longer or shorter for a call."""

    thinks: bool = False
    """True if the model may be silent while it thinks."""
    replaceable: bool = False
    """True if another model can take over."""


class AdjustableClocks(Protocol):
    """A call whose clocks depend on the other models that can be called."""

    def wait_with(self, patience: Patience) -> None:
        """Choose the clocks that the settings do not give. Must be called before the call is entered."""
        ...


class AnsweredOverHttp(Protocol):
    """A call whose answer has HTTP headers."""

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """Headers of the answer. The call must have been entered."""
        ...


class StoresAnswers(Protocol):
    """A provider that may store answers while it makes them, so that another process can read them."""

    @property
    def can_resume(self) -> bool:
        """True if the provider's API reads stored answers."""
        ...

    def resume(
        self, request: ModelRequest, answer_id: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]:
        """Return the call that reads a stored answer to `request` from its beginning. See `stream`."""
        ...

    def cancel(self, answer_id: str) -> None:
        """Stop a stored answer that is not needed any more, so that it costs no more. Does not wait."""
        ...


class Provider(Protocol):
    """A seam. HTTP providers and the in-process simulator implement it."""

    name: str

    def stream(
        self, request: ModelRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]:
        """Return the call, which starts when it is entered.

        It may implement `AdjustableClocks` and `AnsweredOverHttp`.

        The iterator yields the events of each read, never an empty batch, and ends after the model's end
        marker. It may implement `PushSource`. Leaving the context, or cancelling a read, closes the upstream
        connection at once unless the answer is complete. Entering and iterating raise ProviderError.
        """
        ...

    async def close(self) -> None:
        """Close idle connections. The provider cannot be used afterwards."""
        ...
