"""A question, and the interface to the events of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

from turnstream.cli.conversation import ConversationPlace
from turnstream.core.blocks import Block
from turnstream.core.native_fold import NativeEvent

TITLE_LENGTH = 80


class Question(NamedTuple):
    """A question to a model. Options that are None have the server's defaults, or those of the last turn."""

    blocks: tuple[Block, ...]
    model: str | None = None
    system: str | None = None
    place: ConversationPlace | None = None
    """Turn to continue from. None: a new chat."""
    params: dict[str, Any] | None = None
    tools: tuple[str, ...] | None = None
    """Names of the tools that the model may call. None: all tools."""
    functions: tuple[Callable[..., Any], ...] = ()
    """Further tools, for an engine in this process."""

    @property
    def title(self) -> str | None:
        """Title of a new chat: the beginning of the text. None if there is no text."""
        text = next((block.text_content for block in self.blocks if block.text_content), "")
        line = " ".join(text[: 4 * TITLE_LENGTH].split())
        return (line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1]}…") or None


class FollowedTurn(Protocol):
    """An assistant turn. Entering the context starts the turn, and `next` watches it.

    Entering and `next` raise TurnstreamError if an error occurs that a retry cannot fix.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def next(self) -> Sequence[NativeEvent] | None:
        """Return the new events, or None after the turn's end."""
        ...

    async def interrupt(self) -> None:
        """Stop the turn. Its last events still arrive."""
        ...

    async def approve(self, approval_id: str, *, approved: bool, reason: str | None) -> None:
        """Answer an approval request of the turn. Raises Conflict if it cannot be answered any more."""
        ...
