"""The attempts of one step on the models of a plan, and the choice of the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from turnstream.errors import ProviderError, ProviderTimeout
from turnstream.providers.decisions import (
    AT_ONCE,
    TARGETS,
    Kind,
    RetryPolicy,
    may_wait,
    pause_before,
    spacing_left,
)
from turnstream.providers.planned_call import PlanClock, PlannedModel


class StepAttempts:
    """Remembers how the calls of one step failed. Models are named by their place in the plan.

    Args:
        models: The models of the plan.
        pace: Clock and random numbers.
        blocked_for: Returns the seconds for which the circuit of a model, by its name, stays open.

    Attributes:
        current: The model of the last call.
    """

    def __init__(
        self,
        models: Sequence[PlannedModel],
        policy: RetryPolicy,
        pace: PlanClock,
        blocked_for: Callable[[str], float],
    ) -> None:
        self._models = models
        self._policy = policy
        self._pace = pace
        self._blocked_for = blocked_for
        self.current = 0
        self._failed: dict[int, list[float]] = {}
        """Times at which attempts failed."""
        self._excluded: set[int] = set()
        """Models that are not called again in this step."""
        self._no_prefill: set[int] = set()
        """Models that did not continue their own text."""
        self._unstreamed: set[int] = set()
        """Models that do not stream, in any step."""
        self._needed = 0
        """Largest context window (tokens) that has already overflowed. Models at or below it are skipped."""
        self._lost_seconds: dict[int, float] = {}
        """Seconds of pauses, and of calls without output."""
        self._silent: set[int] = set()
        """Models that were silent for long. All other models are tried first."""

    def begin_step(self) -> None:
        """Forget the attempts of the step before."""
        self._failed.clear()
        self._excluded.clear()
        self._no_prefill.clear()
        self._needed = 0
        self._lost_seconds.clear()
        self._silent.clear()

    def streams(self, place: int) -> bool:
        """Return False if a model has refused to stream."""
        return place not in self._unstreamed

    def may_prefill(self, place: int) -> bool:
        """Return True if a model continues its own text, as far as is known."""
        return place not in self._no_prefill and self._models[place].prefills

    def add_lost_seconds(self, seconds: float) -> None:
        """Count a pause, or a call without output, for the current model."""
        self._lost_seconds[self.current] = self._lost_seconds.get(self.current, 0.0) + seconds

    def note_failure(self, failure: ProviderError, began: float, *, has_output: bool) -> None:
        """Note a failed call of the current model.

        Args:
            failure: The failure.
            began: Time on the plan's clock at which the call began, in seconds.
            has_output: True if the call brought output. Otherwise its time counts as lost.
        """
        now = self._pace.clock()
        self._failed.setdefault(self.current, []).append(now)
        silence, took = failure.silence, now - began
        if not has_output or (isinstance(failure, ProviderTimeout) and not silence):
            silence = max(silence, took)
        if not has_output:
            self.add_lost_seconds(took)
        if silence >= self._policy.silence:
            self._silent.add(self.current)
        else:
            self._silent.discard(self.current)

    def forgive(self) -> None:
        """Count only the last failure of the current model: the answer that it stores has moved on."""
        del self._failed.get(self.current, [])[:-1]

    def next_place(
        self, kind: Kind, failure: ProviderError, continues: Callable[[int], bool]
    ) -> tuple[int | None, float]:
        """Return the next model and the seconds to wait before its call, or None if no model is left.

        `continues`: returns True if a model can continue the shown blocks.
        """
        ways, current = TARGETS[kind], self.current
        if kind == "no_prefill":
            self._no_prefill.add(current)
        if kind == "no_stream":
            self._unstreamed.add(current)
        if kind == "too_long":
            self._needed = max(self._needed, self._models[current].context or 0)
        others = self.alternatives() if ways else []
        pause = self._pause(kind, failure)
        candidates = others
        if "same" not in ways or not self._may_try(current, pause, other=bool(others)):
            self._excluded.add(current)
        else:
            candidates = [current, *others]
        # A model that can continue comes first, but a silent one never comes before another.
        candidates = [place for place in candidates if place not in self._silent] or others or candidates
        if not candidates:
            return None, 0.0
        place = next(filter(continues, candidates), candidates[0])
        if place == current:
            return place, pause
        return place, spacing_left(self._policy, self._failed.get(place, ()), self._pace.clock())

    def alternatives(self) -> list[int]:
        """Return the other models that may be called now, from the current one on, silent ones last."""
        count = len(self._models)
        order = [(self.current + step) % count for step in range(1, count)]
        found = [
            place
            for place in order
            if place not in self._excluded and self._reads_enough(place) and self._may_try(place, 0.0)
        ]
        return sorted(found, key=self._silent.__contains__)

    @property
    def is_replaceable(self) -> bool:
        """True if another model may be called. False if all were silent: they may only be slow."""
        others = self.alternatives()
        return bool(others) and not self._silent.issuperset((self.current, *others))

    def _reads_enough(self, place: int) -> bool:
        context = self._models[place].context
        return context is None or context > self._needed

    def _may_try(self, place: int, pause: float, *, other: bool = True) -> bool:
        if self._blocked_for(self._models[place].called.name) > pause:
            return False
        made, lost = len(self._failed.get(place, ())), self._lost_seconds.get(place, 0.0)
        return made < self._policy.attempts and may_wait(self._policy, pause, lost, other=other)

    def _pause(self, kind: Kind, failure: ProviderError) -> float:
        policy, now = self._policy, self._pace.clock()
        failed = self._failed.get(self.current, ())
        if kind in AT_ONCE or not failed:
            return spacing_left(policy, failed, now)
        return pause_before(policy, failed, now, chance=self._pace.chance(), retry_after=failure.retry_after)
