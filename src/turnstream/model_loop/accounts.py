"""A turn's usage and cost, step by step.

A provider reports its usage at the end of its answer. For an answer that fails before its end, there is no
report, or only the counts from its beginning. Then the account uses an estimate (`estimates.py`), and marks
it as such. For each count, the provider's is used if it is larger. A call that was refused or never answered
has no usage. A step may take several attempts. Each is counted for its own model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from time import monotonic, time_ns
from typing import Any

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.message_facts import MessageFacts
from turnstream.core.turn_events import UsageReport
from turnstream.core.usage import ORPHANED, AccountRecord, CallAttempt, Usage
from turnstream.model_loop.estimates import output_bytes_of, tokens_of
from turnstream.model_loop.model_call import ModelCall
from turnstream.providers.base import CalledModel
from turnstream.providers.pricing import Cost, Pricing, total


class Summary(AccountRecord, frozen=True, gc=False, kw_only=True):
    """A turn's account, with the calls that were made."""

    attempts: tuple[CallAttempt, ...] = ()


class TurnAccount:
    """The usage and cost of one turn, kept by its executor. Without `pricing` there is no cost.

    Args:
        calls: Calls of the turn that have ended, if another executor made them.
    """

    def __init__(self, pricing: Pricing | None = None, calls: Iterable[ModelCall] = ()) -> None:
        self._pricing = pricing
        self._closed = list(calls)
        self._open: ModelCall | None = None
        self._input_estimate: Callable[[], int] | None = None
        self._output_bytes = 0
        self._carried = 0
        """Bytes of the open block that are already counted, for an earlier attempt."""
        self._kept_bytes = 0
        """Bytes of complete blocks that count for the next call, because it reads the same answer again."""
        self._is_made = False
        """True if the next call reads an answer that an earlier call has requested."""
        self._reported = UsageReport(Usage())

    @property
    def usage(self) -> Usage:
        """Usage of all steps so far."""
        steps = self._all()
        if len(steps) == 1:
            return steps[0].usage
        usage = Usage()
        for step in steps:
            usage = usage.plus(step.usage)
        return usage

    @property
    def calls(self) -> Sequence[ModelCall]:
        """Model calls so far. The open call is the last one."""
        return self._all()

    def begin(
        self,
        step: int,
        model: CalledModel | None = None,
        input_estimate: Callable[[], int] | None = None,
    ) -> None:
        """Open a model call.

        Args:
            step: Number of the step.
            model: The model. None if the source does not call one of the catalog's models.
            input_estimate: Returns the estimated tokens of the request. Called only if needed.
        """
        if self._open is not None:
            self._closed.append(self._open)
        last = self._closed[-1] if self._closed else None
        attempt = last.attempt + 1 if last is not None and last.number == step else 1
        self._open = ModelCall(
            step, attempt, model, answered=self._is_made, started_at=time_ns() // 1000, began=monotonic()
        )
        self._is_made = False
        self._input_estimate = input_estimate
        self._output_bytes, self._kept_bytes = self._kept_bytes, 0
        if model is not None and self._pricing is not None:
            self._pricing.prepare(model.provider, model.model)

    def book(self, stream: str, calls: Sequence[ModelCall]) -> None:
        """Set the calls of a stream that the source read itself in the open step. Their numbers are set here.

        Args:
            stream: Id of the stream.
            calls: Calls so far. They replace the calls that were booked for the stream before.
        """
        last = self._open or (self._closed[-1] if self._closed else None)
        step = last.number if last is not None else 0
        known = self._closed
        place = next((at for at, call in enumerate(known) if call.stream == stream), len(known))
        others = [call for call in known if call.stream != stream]
        booked = [self._booked(call, step, stream) for call in calls]
        numbers = count(1)
        self._closed = [
            call._replace(attempt=next(numbers)) if call.number == step and call.model is not None else call
            for call in (*others[:place], *booked, *others[place:])
        ]

    def _booked(self, call: ModelCall, step: int, stream: str) -> ModelCall:
        if call.model is not None and self._pricing is not None:
            self._pricing.prepare(call.model.provider, call.model.model)
        return call._replace(
            number=step,
            started_at=time_ns() // 1000 - round(call.duration * 1_000_000),
            cost=self._price(call.model, call.usage, call.raw_usage, may_wait=False),
            stream=stream,
        )

    def calls_so_far(self) -> list[ModelCall]:
        """Return the model calls so far. The usage of a call that runs is its estimated input."""
        calls = [call for call in self._closed if call.model is not None]
        if (call := self._open) is not None and call.model is not None and self._input_estimate is not None:
            usage = Usage(self._input_estimate())
            calls.append(call._replace(usage=usage, estimated=True, answered=True))
        return calls

    def answering(self) -> None:
        """Note that the provider began to answer the open call. From now on the call may have usage."""
        if self._open is not None:
            self._open = self._open._replace(answered=True)

    def note_output(self) -> None:
        """Note that the first output of the open call has arrived."""
        if (call := self._open) is not None:
            self._open = call._replace(first_output=monotonic() - call.began)

    def fail(
        self, code: str, usage: Usage, raw: Mapping[str, Any] | None = None, *, unstored: Sequence[Block] = ()
    ) -> None:
        """Close the open call as failed.

        Call it before the source recovers: until then the input estimate is the one of the failed call.

        Args:
            code: Error code of the failure.
            usage: Usage that the provider reported.
            raw: The same as the provider sent it.
            unstored: Incomplete blocks of the call. The next attempt may continue the first one.
        """
        self._settle(usage, raw, unstored)
        self._carried = sum(map(output_bytes_of, unstored[:1]))
        if self._open is not None:
            self._closed.append(self._open.ended(code))
            self._open = None

    def read_again(self) -> None:
        """Note that the next call reads the answer of the failed call, which its provider stores.

        The answer is made once, so its usage counts once: for the next call.
        """
        failed = self._closed[-1]
        self._closed[-1] = failed._replace(usage=Usage(), cost=None, estimated=False, answered=False)
        self._kept_bytes, self._carried = self._output_bytes, 0
        self._is_made = True

    def attach(self, shown: Iterable[Block]) -> None:
        """Note that the next call reads an answer that a lost call has requested.

        The lost call counts with that call, even if the answer cannot be read. `shown`: complete blocks of
        the answer.
        """
        self._kept_bytes = sum(map(output_bytes_of, shown))
        self._is_made = True

    def note_retracted(self) -> None:
        """Note that the shown blocks of the step are retracted, and will be generated again."""
        self._carried = 0

    def count_block(self, block: Block) -> None:
        """Count a complete block of the open step.

        Results of tools do not count.
        """
        self._output_bytes += max(0, output_bytes_of(block) - self._carried)
        self._carried = 0

    def report(self, usage: Usage, raw: Mapping[str, Any] | None = None) -> UsageReport:
        """Replace the usage of the open step, and return the event that reports the turn's usage.

        The event has no cost while the prices are still being read.
        """
        self._set_usage(usage, raw, may_wait=False)
        self._reported = self._report(estimated=False)
        return self._reported

    def pending_report(self, summary: Summary) -> UsageReport | None:
        """Return the report to show before the terminal event, or None if the last report still holds."""
        report = self._report(estimated=summary.cost_estimated)
        return None if report == self._reported else report

    def _report(self, *, estimated: bool) -> UsageReport:
        cost = self._cost()
        if cost is None:
            return UsageReport(self.usage, estimated=estimated)
        return UsageReport(self.usage, cost.text, estimated=estimated, unpriced=not cost.known)

    async def ready(self) -> None:
        """Wait until prices can be looked up without blocking. Call it before `end`."""
        if self._pricing is not None:
            await self._pricing.ready()

    def close(self, facts: MessageFacts) -> None:
        """Close the open step after its end marker. Its usage is final."""
        self._set_usage(facts.usage, facts.raw_usage, may_wait=False)
        if self._open is not None:
            reason = None if facts.stop is None else facts.stop.stop_reason
            about = {"response_id": facts.message_id, "response_model": facts.model, "stop_reason": reason}
            self._closed.append(self._open.ended("complete")._replace(**about))
            self._open = None
        self._input_estimate = None  # free the request, which it references

    def lose(self, *, counted: int = 0, carried: int = 0) -> None:
        """Close the open step, whose report is lost. Estimate it from the blocks given to `count_block`.

        `counted`: bytes of these blocks that earlier calls have counted. `carried`: bytes of the block that
        the next call continues.
        """
        self.answering()
        self._output_bytes, self._carried = max(0, self._output_bytes - counted), carried
        self._settle(Usage(), None, [])
        if self._open is not None:
            self._closed.append(self._open.ended(ORPHANED))
            self._open = None

    def end(
        self,
        usage: Usage,
        raw: Mapping[str, Any] | None = None,
        *,
        cut: Iterable[Block] = (),
        complete: bool,
        outcome: str = "cancelled",
    ) -> Summary:
        """End the turn, and return its account. The arguments describe the call that is still open, if any.

        Args:
            usage: Usage that the provider reported.
            raw: The same as the provider sent it.
            cut: Blocks that were cut off.
            complete: True if the call's answer was complete.
            outcome: Outcome of a call that was not complete.
        """
        if self._open is not None:
            if complete:
                self._set_usage(usage, raw, may_wait=True)
            else:
                self._settle(usage, raw, [*cut], may_wait=True)
            self._open = self._open.ended("complete" if complete else outcome)
        self._input_estimate = None  # free the request, which it references
        self._reprice()
        return self._summary(self._all())

    def so_far(self) -> Summary:
        """Return the account of the calls that have ended, and of those that the source has booked.

        A booked call may still run. Its usage is its estimated input then.
        """
        return self._summary(self._closed)

    def _summary(self, steps: Sequence[ModelCall]) -> Summary:
        cost = self._cost()
        return Summary(
            usage=self.usage,
            cost=cost.text if cost is not None else None,
            cost_estimated=any(step.estimated for step in steps),
            steps=tuple(
                step.stored()
                for step in steps
                if (step.model is not None and step.answered) or step.usage != Usage()
            ),
            attempts=tuple(step.attempt_of(step.model) for step in steps if step.model is not None),
        )

    def _settle(
        self, usage: Usage, raw: Mapping[str, Any] | None, cut: Sequence[Block], *, may_wait: bool = False
    ) -> None:
        """Set the usage of an open call that failed: the provider's report, or an estimate."""
        size = self._output_bytes + max(0, sum(map(output_bytes_of, cut)) - self._carried)
        estimate = self._estimate(usage, size)
        self._set_usage(estimate or usage, raw, may_wait=may_wait, estimated=estimate is not None)

    def _all(self) -> list[ModelCall]:
        return [*self._closed, self._open] if self._open is not None else self._closed

    def _set_usage(
        self, usage: Usage, raw: Mapping[str, Any] | None, *, may_wait: bool, estimated: bool = False
    ) -> None:
        if (step := self._open) is not None:
            cost = self._price(step.model, usage, raw, may_wait=may_wait)
            self._open = step._replace(usage=usage, cost=cost, estimated=estimated, raw_usage=raw)

    def _price(
        self, model: CalledModel | None, usage: Usage, raw: Mapping[str, Any] | None, *, may_wait: bool
    ) -> Cost | None:
        pricing = self._pricing
        if model is None or pricing is None or (pricing.loading and not may_wait):
            return None
        return pricing.cost(model.provider, model.model, model.wire, usage, raw=raw)

    def _reprice(self) -> None:
        """Compute the cost of the steps that ended before prices were available."""
        self._closed = [
            step
            if step.cost is not None
            else step._replace(cost=self._price(step.model, step.usage, None, may_wait=True))
            for step in self._closed
        ]

    def _cost(self) -> Cost | None:
        steps = self._all()
        for step in steps:
            if step.cost is None and step.usage != Usage():
                return None  # one cost is unknown, and the rest would be taken for the whole
        return total([step.cost for step in steps])

    def _estimate(self, usage: Usage, output_bytes: int) -> Usage | None:
        """Return the estimated usage of a step that failed.

        Return None if there is no model, or if the estimate adds nothing to the provider's report.
        """
        step = self._open
        if step is None or step.model is None or not step.answered or self._input_estimate is None:
            return None
        output = max(usage.output_tokens or 0, tokens_of(output_bytes))
        given = usage.input_tokens if usage.input_tokens is not None else self._input_estimate()
        if (given, output) == (usage.input_tokens, usage.output_tokens):
            return None
        return msgspec.structs.replace(usage, input_tokens=given, output_tokens=output)
