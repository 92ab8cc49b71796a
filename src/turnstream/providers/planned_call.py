"""One call of a plan, from its admission to its end, and the models that a plan may call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Protocol, TypeAlias

from turnstream.core.blocks import Block
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import InvalidRequest, ProviderError
from turnstream.providers.base import CalledModel, Provider
from turnstream.providers.joining import JoinedBatches, JoinedEvent, Joint

CallBatches: TypeAlias = AsyncIterator[Sequence[JoinedEvent]]
Call: TypeAlias = AbstractAsyncContextManager[CallBatches]
ProviderCall: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]

_NO_HEADERS: Mapping[str, str] = {}


class PlannedModel(NamedTuple):
    """A model that may be called."""

    provider: Provider
    called: CalledModel
    prefills: bool = False
    """True if the model continues its own text under the params of the request."""
    context: int | None = None
    """Context window in tokens, or None if it is unknown."""
    thinks: bool = False
    """True if the model may be silent while it thinks."""
    reasoning_field: str | None = None
    """Field in which the model needs its thinking back, or None."""


class ShownBlocks(NamedTuple):
    """Blocks of the step that were shown when its call failed."""

    blocks: Sequence[Block] = ()
    """Blocks in order. The last one is still open if it is `partial`."""
    final: bool = False
    """True if no block may be retracted, because a tool was started."""


class PlanClock(NamedTuple):
    """Clock, sleep and random numbers of plans. Tests replace them."""

    clock: Callable[[], float] = monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    chance: Callable[[], float] = random.random


class NotCalled(ProviderError):
    """The model's API cannot express the request, for the given `reason`. Another model may be called."""

    code = InvalidRequest.code

    def __init__(self, reason: InvalidRequest) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Gate(Protocol):
    """Receives the reports of a call. The plan implements it."""

    def admit(self, place: int) -> None:
        """Admit a call of the model at `place`, which is about to be made. Raises CircuitOpen."""
        ...

    def answering(self, headers: Mapping[str, str]) -> None:
        """Report that the provider has accepted the call. `headers`: those of its answer."""
        ...


class PlannedCall:
    """A call that reports to its gate. Its batches are the provider's own, unless a joint is given."""

    def __init__(self, gate: Gate, place: int, stream: ProviderCall, joint: Joint | None) -> None:
        self._gate = gate
        self._place = place
        self._stream = stream
        self.joint = joint

    async def __aenter__(self) -> CallBatches:
        self._gate.admit(self._place)
        try:
            batches = await self._stream.__aenter__()
        except InvalidRequest as error:
            raise NotCalled(error) from error
        self._gate.answering(getattr(self._stream, "answer_headers", _NO_HEADERS))
        return batches if self.joint is None else JoinedBatches(batches, self.joint)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)
