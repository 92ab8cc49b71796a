"""One call of a plan, from its admission to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, TypeAlias

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import InvalidRequest, ProviderError
from turnstream.providers.joining import JoinedBatches, JoinedEvent, Joint

CallBatches: TypeAlias = AsyncIterator[Sequence[JoinedEvent]]
Call: TypeAlias = AbstractAsyncContextManager[CallBatches]
ProviderCall: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Sequence[StreamEvent]]]

_NO_HEADERS: Mapping[str, str] = {}


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
        self._joint = joint

    async def __aenter__(self) -> CallBatches:
        self._gate.admit(self._place)
        try:
            batches = await self._stream.__aenter__()
        except InvalidRequest as error:
            raise NotCalled(error) from error
        self._gate.answering(getattr(self._stream, "answer_headers", _NO_HEADERS))
        return batches if self._joint is None else JoinedBatches(batches, self._joint)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)
