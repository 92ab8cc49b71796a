"""The point in a turn at which a driver begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from turnstream.core.blocks import Block
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import BlockReset, Notice
from turnstream.wires.base import StoredAnswer


class LoopPosition(NamedTuple):
    """The point in a turn at which a driver begins.

    Args:
        step: Number of the step.
        first: Sequence of the step's first block.
        sequence: Sequence of the open block, or of the next block if none is open.
        open_block: Block that the step's stream continues, as index RESUMED (see `Accumulator.resume`).
        step_shown: True if the step's StepStart has been shown.
        answered: True if the step's model call is complete. The driver begins with the results of its tools.
        repeated: Shown blocks that the first stream repeats. The driver skips them.
        restart: Events that tell watchers that another executor continues the turn: the reset of lost blocks,
            and a notice.
    """

    step: int = 0
    first: int = 0
    sequence: int = 0
    open_block: OpenBlock | None = None
    step_shown: bool = False
    answered: bool = False
    repeated: Sequence[Block] = ()
    restart: tuple[BlockReset, Notice] | None = None


class BegunStep(NamedTuple):
    """A step that another process has begun.

    Attributes:
        shown: Blocks of the step that were shown.
        answer: The model's answer, if the provider stores it. None if it does not.
    """

    shown: Sequence[Block]
    answer: StoredAnswer | None
