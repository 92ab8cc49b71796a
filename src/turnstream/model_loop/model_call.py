"""One model call of a turn, as its account keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from time import monotonic
from typing import Any, NamedTuple

from turnstream.core.usage import CallAttempt, StepUsage, Usage
from turnstream.providers.base import CalledModel
from turnstream.providers.pricing import Cost


class ModelCall(NamedTuple):
    """A model call: attempt `attempt` of step `number`.

    Attributes:
        answered: True if the provider began to answer.
        started_at: Microseconds since the epoch.
        began: Seconds of `time.monotonic` at the start.
        outcome: `complete`, or an error code. Empty while the call runs.
        duration: Seconds. 0 while the call runs.
        raw_usage: Usage as the provider sent it.
        stream: Id of the stream in which the source made the call itself. Empty: the driver made the call.
        first_output: Seconds from the start to the first output. None before it, or if it is not known.
        response_id, response_model, stop_reason: Facts of an answer with an end marker, or None.
    """

    number: int
    attempt: int
    model: CalledModel | None
    usage: Usage = Usage()
    cost: Cost | None = None
    estimated: bool = False
    answered: bool = False
    started_at: int = 0
    began: float = 0.0
    outcome: str = ""
    duration: float = 0.0
    raw_usage: Mapping[str, Any] | None = None
    stream: str = ""
    first_output: float | None = None
    response_id: str | None = None
    response_model: str | None = None
    stop_reason: str | None = None

    def ended(self, outcome: str) -> ModelCall:
        """Return the call with its outcome and duration."""
        return self._replace(outcome=outcome, duration=monotonic() - self.began)

    @classmethod
    def of(cls, attempt: CallAttempt, model: CalledModel) -> ModelCall:
        """Return the call of a stored attempt."""
        return cls(
            attempt.step,
            attempt.number,
            model,
            attempt.usage,
            None if attempt.cost is None else Cost(Decimal(attempt.cost), estimated=attempt.estimated),
            attempt.estimated,
            answered=attempt.outcome == "complete" or attempt.usage != Usage(),
            started_at=attempt.started_at,
            outcome=attempt.outcome,
            duration=attempt.duration,
            first_output=attempt.first_output,
        )

    def stored(self) -> StepUsage:
        """Return the usage and cost of the call, as the turn's row keeps them."""
        return StepUsage(
            self.number,
            self.model.name if self.model is not None else None,
            self.usage,
            self.cost.text if self.cost is not None else None,
            self.estimated,
        )

    def attempt_of(self, model: CalledModel) -> CallAttempt:
        """Return the call as an attempt on its model."""
        return CallAttempt(
            self.number,
            self.attempt,
            model.name,
            self.outcome or "complete",
            self.started_at,
            round(self.duration, 6),
            self.usage,
            self.cost.text if self.cost is not None else None,
            self.estimated,
            None if self.first_output is None else round(self.first_output, 6),
        )
