"""A plan over providers that fail as a test says, on a clock of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any

import pytest

from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import (
    Overloaded,
    ProviderError,
)
from turnstream.providers.base import CalledModel
from turnstream.providers.circuit import CircuitPolicy, Circuits
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.plan import CallPlan, CallRecovery, PlanClock, PlannedModel, Planner, ShownBlocks
from turnstream.wires.base import ModelRequest

REQUEST = ModelRequest("", (Message("user", (Block(0, "text", "Hi"),)),))
SHOWN = ShownBlocks((Block(0, "text", "Once upon a time ", None, partial=True),))


class Time:
    """A clock that only sleeping and calling move."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Calls:
    """Calls of all providers of a test."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.made: list[tuple[str, float]] = []
        self.requests: list[ModelRequest] = []


class FailingProvider:
    """Each call fails with the next error, after `seconds`; once there is none, it is answered."""

    def __init__(self, name: str, calls: Calls, errors: Iterator[ProviderError], seconds: float) -> None:
        self.name = name
        self.calls = calls
        self.errors = errors
        self.seconds = seconds

    def stream(self, request: ModelRequest) -> FailingCall:
        return FailingCall(self, request)

    async def close(self) -> None:
        """Nothing is open."""


class FailingCall:
    def __init__(self, provider: FailingProvider, request: ModelRequest) -> None:
        self.provider = provider
        self.request = request

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        provider = self.provider
        provider.calls.made.append((provider.name, provider.calls.time.now))
        provider.calls.requests.append(self.request)
        provider.calls.time.now += provider.seconds
        error = next(provider.errors, None)
        if error is not None:
            raise error
        return nothing()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""


async def nothing() -> AsyncIterator[Sequence[StreamEvent]]:
    return
    yield


class Planned:
    """A plan over failing providers: `failing` gives each model's errors, in the order of the models."""

    def __init__(self, *failing: list[ProviderError], seconds: float = 0.1, **options: Any) -> None:
        self.time = Time()
        self.calls = Calls(self.time)
        policy = RetryPolicy(**options.pop("policy", {}))
        circuits = Circuits(options.pop("circuit", CircuitPolicy(failures=100)), self.time)
        self.planner = Planner(policy, circuits, PlanClock(self.time, self.time.sleep, lambda: 1.0))
        prefills = options.pop("prefills", (False,) * len(failing))
        contexts = options.pop("contexts", (None,) * len(failing))
        models = [
            PlannedModel(
                FailingProvider(f"p{place}", self.calls, iter(errors), seconds),
                CalledModel(f"p{place}", "m", "anthropic"),
                prefills[place],
                contexts[place],
            )
            for place, errors in enumerate(failing)
        ]
        self.plan: CallPlan = self.planner.plan(models, **options)
        self.told: list[str] = []

    @property
    def made(self) -> str:
        """The numbers of the models that were called."""
        return "".join(name[1:] for name, _ in self.calls.made)

    async def answer(self, shown: ShownBlocks | None = None) -> None:
        """Run one step. Each failed call counts as one that showed `shown`. Raise the last failure."""
        call = self.plan.begin(REQUEST)
        while True:
            try:
                await call.__aenter__()
            except ProviderError as failure:
                recovery: CallRecovery = self.plan.recover(failure, shown or ShownBlocks())
                self.told.append(recovery.notice.code)
                await self.plan.pause(recovery)
                call = recovery.call
            else:
                self.plan.succeeded()
                return

    async def fails(self, shown: ShownBlocks | None = None) -> str:
        with pytest.raises(ProviderError) as raised:
            await self.answer(shown)
        return raised.value.code


def overloaded(times: int = 9) -> list[ProviderError]:
    return [Overloaded("-") for _ in range(times)]
