"""Token counts, and the sums of their reports."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

LAST_MOMENT = 253_402_300_799_000_000
"""Microseconds from the epoch to the end of the year 9999."""
Moment: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LAST_MOMENT)]
"""Microseconds since the epoch, UTC."""
Dollars: TypeAlias = Annotated[str, msgspec.Meta(max_length=32)]
"""US dollars, a decimal number with six places."""
ORPHANED = "orphaned"
"""Outcome of a model call that was lost with its process."""
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens of one model call, or of a turn. None means that the provider did not report the count.

    `input_tokens` does not include tokens from a cache if the provider separates the two. The raw usage keeps
    the provider's own numbers.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    def updated(self, report: Usage) -> Usage:
        """Return the usage after a later report of the same call.

        Counts are cumulative, so the later count wins.
        """
        return Usage(
            *[
                new if new is not None else old
                for old, new in zip(
                    msgspec.structs.astuple(self), msgspec.structs.astuple(report), strict=True
                )
            ]
        )

    def plus(self, other: Usage) -> Usage:
        """Return the sum with another call's usage (the steps of one turn)."""
        return Usage(
            *[
                a if b is None else b if a is None else a + b
                for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
            ]
        )


class CallAttempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One attempt of a model call in a step of a turn, as it is stored.

    Attributes:
        step: The step's number.
        number: The attempt's number within its step, from 1.
        outcome: `complete`, `cancelled`, or the code of the error that ended the attempt.
        started_at: Microseconds since the epoch.
        duration: Seconds.
        usage: Tokens used. Empty for a call that was refused or never answered.
        cost: See `StepUsage`.
        estimated: See `StepUsage`.
        first_output: Seconds from the call to its first output. None without output, or if it is not known.
    """

    step: Count
    number: Count
    model: str
    outcome: str
    started_at: Moment
    duration: float
    usage: Usage = Usage()
    cost: Dollars | None = None
    estimated: bool = False
    first_output: float | None = None


class StepUsage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The usage of one step (model call) of a turn, as it is stored.

    Attributes:
        model: `provider/model`, or None.
        cost: US dollars, a decimal number with six places. None if the model's price or the usage is not
            known.
        estimated: The counts, and so the cost, are an estimate.
    """

    step: int
    model: str | None = None
    usage: Usage = Usage()
    cost: str | None = None
    estimated: bool = False


class AccountRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A turn's account: the fields of its row that record its usage.

    Attributes:
        cost: US dollars, a decimal number with six places. None if it is not known.
        cost_estimated: The cost, and the counts in `usage`, are an estimate.
        steps: The model calls of an ended turn.
    """

    usage: Usage = Usage()
    cost: Dollars | None = None
    cost_estimated: bool = False
    steps: tuple[StepUsage, ...] = ()
