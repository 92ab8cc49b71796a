"""A question and its answer's events, wherever the engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from turnstream.cli.conversation import ConversationPlace
from turnstream.client.watched_turn import NativeEvent


class Question(NamedTuple):
    """What is asked. None leaves it to the server's defaults."""

    text: str
    model: str | None = None
    system: str | None = None
    place: ConversationPlace | None = None
    """The turn to go on from; None begins a chat."""


class AskedTurn(Protocol):
    """An assistant turn that is asked for when this context is entered, and watched in it.

    Entering and `next` raise TurnstreamError for what cannot be mended by trying again.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def next(self) -> Sequence[NativeEvent] | None:
        """What is new; None after the turn's end."""
        ...

    async def interrupt(self) -> None:
        """Stop the turn; its last events still come."""
        ...
