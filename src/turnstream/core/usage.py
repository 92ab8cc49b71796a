"""Token counts, and how reports of them add up."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

LAST_MOMENT = 253_402_300_799_000_000
"""Microseconds to the end of the year 9999."""
Moment: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LAST_MOMENT)]
"""Microseconds since the epoch, UTC."""
Dollars: TypeAlias = Annotated[str, msgspec.Meta(max_length=32)]
"""US dollars, a decimal number with six places."""
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens of one model call, or of a turn. None: the provider did not say.

    `input_tokens` counts what was not read from a cache where the provider separates the two; the provider's
    own numbers are kept beside it as raw usage.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    def updated(self, report: Usage) -> Usage:
        """Fold a later report of the same call: counts are cumulative, so the latest said wins."""
        return Usage(
            *(
                new if new is not None else old
                for old, new in zip(
                    msgspec.structs.astuple(self), msgspec.structs.astuple(report), strict=True
                )
            )
        )

    def plus(self, other: Usage) -> Usage:
        """Add another call's usage (the steps of one turn)."""
        return Usage(
            *(
                a if b is None else b if a is None else a + b
                for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
            )
        )


class CallAttempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One call that was tried for a step of a turn, as it is stored; `number` counts a step's from 1.

    `outcome`: `complete`, `cancelled`, or the code of the error that it ended with. `usage`, `cost`, `estimated`: as in
    StepUsage; a call that was refused or never answered has used nothing. `started_at`: microseconds since the epoch;
    `duration`: seconds.
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


class StepUsage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What one step (model call) of a turn used, as it is stored.

    `cost`: US dollars, a decimal number with six places; None where the price of the model is not known, or nothing is
    known of its usage. `estimated`: the counts, and so the cost, are an estimate. `model` is
    `provider/model`.
    """

    step: int
    model: str | None = None
    usage: Usage = Usage()
    cost: str | None = None
    estimated: bool = False


class AccountRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A turn's account: the fields of its row that say what it used.

    `cost` None: not known. `cost_estimated`: the cost, and the counts in `usage`, are an estimate. `steps`: the model calls of
    an ended turn.
    """

    usage: Usage = Usage()
    cost: Dollars | None = None
    cost_estimated: bool = False
    steps: tuple[StepUsage, ...] = ()
