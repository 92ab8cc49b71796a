"""Calls that survive failures: attempts, other models, and continuation after a break.

    plan.begin(request) ─► call ─► read it … it fails ─► plan.recover(failure, shown) ─► notice, pause, call
                                      └─ it is whole ─► plan.succeeded()

A call is the provider's own stream: the plan is not involved while it brings events. When it fails, the
reader passes the shown blocks to the plan. The plan decides (`decisions`) and returns the next call, joined
to the shown blocks (`joining`). The plan of a turn spans its steps. Attempts are counted per step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.turn_events import Notice
from turnstream.errors import CANNOT_CONTINUE, CircuitOpen, ProviderError
from turnstream.providers.attempts import StepAttempts
from turnstream.providers.base import AdjustableClocks, CalledModel, Patience, StoresAnswers
from turnstream.providers.circuit import Circuits
from turnstream.providers.decisions import (
    UNAVAILABLE,
    CallState,
    Kind,
    RetryPolicy,
    kind_of,
)
from turnstream.providers.failures import recovery_message
from turnstream.providers.joining import ContinuationJoint, Joint, RestartJoint
from turnstream.providers.planned_call import (
    Call,
    NotCalled,
    PlanClock,
    PlannedCall,
    PlannedModel,
    ShownBlocks,
)
from turnstream.providers.prefill import KeptBlocks, kept_of, length_of
from turnstream.wires.base import ModelRequest, StoredAnswer

Restarts: TypeAlias = Literal["reset", "repeat"]
"""Ways to restart a step with shown output: retract it, or require it again word for word."""


class CallRecovery(NamedTuple):
    """Reaction to a failure: publish `notice`, wait `pause` seconds, then read `call`.

    Attributes:
        repeated: Shown blocks that the call must repeat word for word. The reader skips them with a
            RepetitionJoint, after all changes that it made to the shown text.
        reads_again: True if the call reads the answer of the failed call again, which the provider stores.
    """

    call: Call
    notice: Notice
    pause: float
    repeated: Sequence[Block] = ()
    reads_again: bool = False


class _Replacement(NamedTuple):
    """A call in place of a failed one.

    Attributes:
        code: Code of the notice.
        joint: Joins the call to the shown blocks. None: it is read as it is.
        repeated: See `CallRecovery`.
    """

    code: str
    request: ModelRequest
    joint: Joint | None = None
    repeated: Sequence[Block] = ()


class Planner:
    """Makes plans. Holds the policy and the circuits that all calls of an engine share."""

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        circuits: Circuits | None = None,
        pace: PlanClock | None = None,
    ) -> None:
        self.policy = policy or RetryPolicy()
        self.pace = pace or PlanClock()
        self.circuits = Circuits(clock=self.pace.clock) if circuits is None else circuits

    def plan(
        self, models: Sequence[PlannedModel], *, restarts: Restarts = "reset", owner: str | None = None
    ) -> CallPlan:
        """Return the plan of a turn.

        Args:
            models: The first one is called, and the others if it fails.
            restarts: The way to restart a step with shown output.
            owner: The turn's owner. Failures of one owner alone do not block a model for other
                owners. None: no particular owner.
        """
        return CallPlan(self, models, restarts, owner)


class CallPlan:
    """The calls of one turn."""

    def __init__(
        self, planner: Planner, models: Sequence[PlannedModel], restarts: Restarts, owner: str | None
    ) -> None:
        self._planner = planner
        self._restarts = restarts
        self._owner = owner
        self._models = models
        self._attempts = StepAttempts(models, planner.policy, planner.pace, self._blocked_for)
        self._request = ModelRequest("", ())
        self._sent = self._request
        self._began = 0.0
        self._prefilled = False
        self._retracts = False
        """True if the first output of the last call retracts the shown blocks, and has not come yet."""
        self._read_id: str | None = None
        """Id of the stored answer that the last call reads. None if it makes a new answer."""
        self._stream: object = None
        self._seen = 0
        self._admitted: str | None = None
        self._probes = False
        """True if the admitted call is the probe of an open circuit."""
        self._real_failure: ProviderError | None = None
        self.answer_headers: Mapping[str, str] = {}
        """Headers of the last answer of a provider."""

    @property
    def called(self) -> CalledModel:
        """Model of the last call."""
        return self._models[self._attempts.current].called

    @property
    def answer_id(self) -> str | None:
        """Id of the running answer, if the provider stores it. None if it does not."""
        position = getattr(self._stream, "position", None)
        return self._read_id if position is None else position.response_id

    @property
    def sent(self) -> ModelRequest:
        """Request of the last call."""
        return self._sent

    def begin(self, request: ModelRequest) -> Call:
        """Return the first call of a step. It goes to the model that answered the step before."""
        self._begin_step(request)
        return self._call(self._attempts.current, self._request_for(self._attempts.current), None)

    def can_continue(self, shown: Sequence[Block]) -> bool:
        """Return True if the current model can continue the shown blocks of a step. All must be texts."""
        return all(block.block_type == "text" for block in shown) and self._continues(
            self._attempts.current, kept_of(shown)
        )

    def resume(self, request: ModelRequest, shown: Sequence[Block]) -> Call:
        """Return the first call of a step, which continues blocks that `can_continue` allows."""
        self._begin_step(request)
        self._seen = length_of(shown)
        kept = kept_of(shown)
        assert kept is not None
        return self._call(self._attempts.current, *self._continuation(self._attempts.current, kept))

    def choose(self, answer: StoredAnswer) -> bool:
        """Make the model of a stored answer the current one. Return False if its answers cannot be read."""
        for place, model in enumerate(self._models):
            if model.called.name == answer.model and getattr(model.provider, "can_resume", False):
                self._attempts.current = place
                return True
        return False

    def reattach(self, request: ModelRequest, shown: Sequence[Block], answer_id: str) -> Call:
        """Return the first call of a step, which reads a stored answer from its beginning.

        `shown`: its blocks so far. The call repeats them (see `CallRecovery.repeated`).
        """
        self._begin_step(request)
        self._seen = length_of(shown)
        place = self._attempts.current
        return self._call(place, self._request_for(place), None, answer_id)

    def _begin_step(self, request: ModelRequest) -> None:
        self._request = request
        self._attempts.begin_step()
        self._seen = 0
        self._real_failure = None

    def _continuation(self, place: int, kept: KeptBlocks) -> tuple[ModelRequest, Joint]:
        """Return the request and the joint of a call that continues shown text."""
        request = self._request_for(place)
        continued = msgspec.structs.replace(request, messages=(*request.messages, kept.message))
        return continued, ContinuationJoint(kept)

    def recover(self, failure: ProviderError, shown: ShownBlocks) -> CallRecovery:
        """Return the reaction to a failure of the last call.

        Raises `failure` if there is no way to recover. If the last call was never made, raises the last real
        failure instead, or InvalidRequest if no model can express the request.
        """
        has_output = self._note_time(failure, shown)
        kind = kind_of(failure, CallState(self._sent.stream, self._prefilled, has_output))
        answer_id = self._answer_to_read(kind)
        if has_output:
            self._retracts = False
        moved_on = has_output and answer_id is not None
        if moved_on:
            self._attempts.forgive()
        reads = self._read_id is not None and answer_id is None
        if reads and (not has_output or failure.code == CANNOT_CONTINUE):
            kind = "no_prefill"
        if isinstance(failure, NotCalled):
            kind = "unwilling"
            self.close()
        self._update_circuit(failure, available=moved_on or kind not in UNAVAILABLE)
        if not isinstance(failure, CircuitOpen | NotCalled):
            self._real_failure = failure
        kept = kept_of(shown.blocks)
        current = self._attempts.current
        place, pause = self._attempts.next_place(
            kind,
            failure,
            lambda place: self._continues(place, kept) if answer_id is None else place == current,
        )
        reads_again = answer_id is not None and place == current
        if place is None or (shown.final and not reads_again):
            raise self._real_failure or (failure.reason if isinstance(failure, NotCalled) else failure)
        code, request, joint, repeated = self._replacement(place, shown.blocks, kept, reads_again=reads_again)
        name = self._models[place].called.name
        notice = Notice(code, recovery_message(failure, name, code, pause), model=name)
        if not reads_again:
            self.give_up()
        call = self._call(place, request, joint, answer_id if reads_again else None)
        return CallRecovery(call, notice, pause, repeated, reads_again)

    def _replacement(
        self, place: int, shown: Sequence[Block], kept: KeptBlocks | None, *, reads_again: bool
    ) -> _Replacement:
        """Return the next call of a step, as the blocks allow it that the step has shown."""
        request = self._request_for(place)
        if not shown:
            return _Replacement("attempt_failed" if place == self._attempts.current else "fallback", request)
        if reads_again and not self._retracts:
            return _Replacement("continued", request, repeated=shown)
        if not reads_again and kept is not None and self._continues(place, kept):
            return _Replacement("continued", *self._continuation(place, kept))
        if self._restarts == "reset":
            return _Replacement("restarted", request, RestartJoint(shown[0].sequence))
        return _Replacement("restarted", request, repeated=shown)

    def _answer_to_read(self, kind: Kind) -> str | None:
        """Return the id of the stored answer that can be read again after a failure of its call, or None."""
        if kind != "transient" or self._prefilled:
            return None
        return self.answer_id

    async def pause(self, recovery: CallRecovery) -> None:
        """Wait before the call of a recovery."""
        if recovery.pause:
            self._attempts.add_lost_seconds(recovery.pause)
            await self._planner.pace.sleep(recovery.pause)

    def succeeded(self) -> None:
        """Report that the step's answer is whole."""
        self._stream = self._read_id = None
        if self._admitted is not None:
            self._planner.circuits.succeeded(self._admitted, self._owner)
            self._admitted = None

    def give_up(self) -> None:
        """Stop the answer of the last call at its provider, if it is stored there and may still run."""
        answer_id = self.answer_id
        if answer_id is not None:
            model = self._models[self._attempts.current]
            cast("StoresAnswers", model.provider).cancel(answer_id)
            self._stream = self._read_id = None

    def close(self) -> None:
        """End the turn. A call without a result does not count for or against its model."""
        if self._admitted is not None and self._probes:
            self._planner.circuits.abandoned(self._admitted, self._owner)
        self._admitted = None

    # -- for the calls ---------------------------------------------------------------------------------------

    def admit(self, place: int) -> None:
        """Admit a call that is about to be made. Raises CircuitOpen."""
        name, circuits = self._models[place].called.name, self._planner.circuits
        self._probes = circuits.is_open(name, self._owner)
        wait = circuits.admit(name, self._owner)
        if wait:
            raise CircuitOpen(
                f"{name} failed too often just now: it may be tried again in {wait:.0f} s", retry_after=wait
            )
        self._admitted = name
        self._began = self._planner.pace.clock()

    def answering(self, headers: Mapping[str, str]) -> None:
        """Report that the provider has accepted the call. `headers`: those of its answer."""
        self._probes = False
        self.answer_headers = headers
        if self._admitted is not None:
            self._planner.circuits.answered(self._admitted, self._owner)

    # -- decisions -------------------------------------------------------------------------------------------

    def _call(
        self, place: int, request: ModelRequest, joint: Joint | None, answer_id: str | None = None
    ) -> Call:
        self._attempts.current = place
        self._prefilled = isinstance(joint, ContinuationJoint)
        self._retracts = isinstance(joint, RestartJoint)
        model = self._models[place]
        self._sent = msgspec.structs.replace(
            request, model=model.called.model, reasoning_field=model.reasoning_field
        )
        self._read_id = answer_id
        if answer_id is None:
            stream = model.provider.stream(self._sent)
        else:
            stream = cast("StoresAnswers", model.provider).resume(self._sent, answer_id)
        self._stream = stream
        if hasattr(stream, "wait_with"):
            cast("AdjustableClocks", stream).wait_with(self._patience(model))
        return PlannedCall(self, place, stream, joint)

    def _patience(self, model: PlannedModel) -> Patience:
        """Return the patience for the next call.

        An answer without a stream arrives only at its end, so its model gets as much time as one that thinks.
        """
        replaceable = self._attempts.is_replaceable
        return Patience(model.thinks or not self._sent.stream, replaceable=replaceable)

    def _blocked_for(self, name: str) -> float:
        return self._planner.circuits.closed_for(name, self._owner)

    def _note_time(self, failure: ProviderError, shown: ShownBlocks) -> bool:
        """Return True if the call brought output. Otherwise count its time as lost."""
        size = length_of(shown.blocks)
        has_output, self._seen = size != self._seen, size
        if self._admitted is not None:
            self._attempts.note_failure(failure, self._began, has_output=has_output)
        return has_output

    def _update_circuit(self, failure: ProviderError, *, available: bool) -> None:
        name, self._admitted = self._admitted, None
        if name is None or isinstance(failure, CircuitOpen):
            return
        if available:
            self._planner.circuits.succeeded(name, self._owner)
        else:
            self._planner.circuits.failed(name, self._owner)

    def _continues(self, place: int, kept: KeptBlocks | None) -> bool:
        """Return True if the model can continue the shown blocks."""
        if kept is None or not self._attempts.may_prefill(place):
            return False
        return self._restarts == "reset" or kept.retract_from is None

    def _request_for(self, place: int) -> ModelRequest:
        """Return the step's request, for a plain answer if the model does not stream."""
        return msgspec.structs.replace(self._request, stream=self._attempts.streams(place))
