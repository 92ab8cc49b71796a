"""One call of a plan, from its being admitted to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, TypeAlias

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import InvalidRequest, ProviderError
from turnstream.providers.joining import JoinedBatches, JoinedEvent, Joint

CallBatches: TypeAlias = AsyncIterator[Sequence[JoinedEvent]]
Call: TypeAlias = AbstractAsyncContextManager[CallBatches]
ProviderCall: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]


class NotCalled(ProviderError):
    """The request holds what this model's API has no words for: `reason`. Another model may be asked."""

    code = InvalidRequest.code

    def __init__(self, reason: InvalidRequest) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Gate(Protocol):
    """What a call tells its plan."""

    def admit(self, place: int) -> None:
        """A call of the model at `place` is about to be made. Raises CircuitOpen."""
        ...

    def answering(self) -> None:
        """The provider has accepted the call."""
        ...


class PlannedCall:
    """Once it is entered, its batches are the provider's own, but where they have to be joined."""

    def __init__(self, gate: Gate, place: int, stream: ProviderCall, joint: Joint | None) -> None:
        self._gate = gate
        self._place = place
        self._stream = stream
        self._joint = joint

    async def __aenter__(self) -> CallBatches:
        self._gate.admit(self._place)
        try:
            batches = await self._stream.__aenter__()
        except InvalidRequest as error:
            raise NotCalled(error) from error
        self._gate.answering()
        return batches if self._joint is None else JoinedBatches(batches, self._joint)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)
