"""The point at which a lost turn continues, as its rows and its journal show it. Pure.

blocks ─► steps ─► is the last step's answer complete?
    yes ─► its calls without results get them, then the next step
    no ─► its blocks are retracted, and the model is called again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from turnstream.core.blocks import Block, call_id, is_client_call, is_client_result, is_provider_executed
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import BlockReset, Notice
from turnstream.model_loop.position import LoopPosition
from turnstream.model_loop.tool_calls import ResumedStep
from turnstream.store.base import ApprovalRecord, BlockRecord, TurnRecord
from turnstream.store.journal.pages import OpenedBlock
from turnstream.store.ledger.queries import ToolRun
from turnstream.tools.asking import ApprovalAnswer
from turnstream.tools.base import ToolOutput
from turnstream.tools.ledger import OUTCOME_UNKNOWN
from turnstream.turns.takeover.lost_usage import model_calls


class LostTurn(NamedTuple):
    """A claimed turn, with the blocks of its lost executor.

    Attributes:
        rows: Its stored blocks.
        cut: Blocks that only the journal kept, with their first seqs. They come after the stored ones.
        survived: The last seq of the lost executor that survived.
        opened: The last of the blocks that only the journal kept, in a form that can grow. None: there is
            none.
    """

    turn: TurnRecord
    rows: Sequence[BlockRecord]
    cut: Sequence[BlockRecord]
    survived: int
    opened: OpenedBlock | None = None


class LostPosition(NamedTuple):
    """The point at which a lost turn continues.

    Attributes:
        step: The step, with its calls without results if its answer is complete.
        kept: Blocks that stay.
        retracted: Blocks after them. They are made again.
    """

    step: ResumedStep
    kept: Sequence[Block]
    retracted: Sequence[Block]

    @property
    def is_text(self) -> bool:
        """True if the step may be continued as it is: it has no blocks, or its last block is an open text.

        Only thinking and other texts may come before that text.
        """
        blocks = self.retracted
        if self.step.calls is not None:
            return False
        return not blocks or (
            blocks[-1].block_type == "text"
            and all(block.block_type in {"text", "thinking"} for block in blocks)
            and [block.sequence for block in blocks if block.partial] == [blocks[-1].sequence]
        )

    def for_driver(
        self, notice: Notice, opened: OpenBlock | None = None, *, repeats: bool = False
    ) -> LoopPosition:
        """Return the position of the driver that continues the turn.

        Args:
            notice: Shown to watchers.
            opened: The last of `retracted`, if a model continues them all. None: they are retracted.
            repeats: True if the stream repeats `retracted`, instead of continuing them.
        """
        first = _after(self.kept)
        is_answered = self.step.calls is not None
        if opened is not None:
            nothing = BlockReset(opened.sequence + 1)
            return LoopPosition(
                self.step.number,
                first,
                opened.sequence,
                opened,
                step_shown=True,
                repeated=self.retracted if repeats else (),
                restart=(nothing, notice),
            )
        return LoopPosition(
            self.step.number,
            first,
            max(first, _after(self.retracted)),
            step_shown=is_answered or bool(self.retracted),
            answered=is_answered,
            restart=(BlockReset(first, shown=tuple(self.retracted)), notice),
        )


def lost_position(
    lost: LostTurn,
    runs: Sequence[ToolRun],
    approvals: Sequence[ApprovalRecord],
    idempotent: Collection[str],
) -> LostPosition:
    """Return the point at which a lost turn continues.

    Args:
        runs: The turn's calls in the ledger of tool calls.
        approvals: Approvals of the turn.
        idempotent: Names of the tools that may run again. They may start before the answer is complete.
    """
    stored, cut = [row.block for row in lost.rows], [row.block for row in lost.cut]
    before, current = model_calls(stored)[-1]
    steps_before = sum(1 for place, block in enumerate(before) if _ends_step(before, place, block))
    ended = max((step.step for step in lost.turn.steps), default=-1)
    calls = [block for block in current if is_client_call(block)]
    seqs = {run.first_seq for run in runs if run.tool_name not in idempotent}
    started = {row.block.sequence for row in lost.rows if row.first_seq in seqs}
    asked = {approval.sequence for approval in approvals}
    is_answered = (
        any(map(is_client_result, current))
        or any(call.sequence in started or call.sequence in asked for call in calls)
        # A provider that runs tools may pause its answer. Then steps cannot be told apart by their blocks.
        or (bool(calls) and ended >= steps_before and not any(map(is_provider_executed, current)))
    )
    if not is_answered:
        step = ResumedStep(max(ended + 1, steps_before))
        return LostPosition(step, before, (*current, *cut))
    number = max(ended, steps_before)
    unanswered = unanswered_calls(current, with_cut=True)
    if cut and not unanswered and not is_client_result(cut[0]):
        return LostPosition(ResumedStep(number + 1), stored, cut)  # the next step had begun
    return LostPosition(resumed_step(number, unanswered, approvals), stored, cut)


def resumed_step(step: int, calls: Sequence[Block], approvals: Sequence[ApprovalRecord]) -> ResumedStep:
    """Return a step in which the model's answer is complete.

    Args:
        calls: Its calls without a result.
        approvals: Approvals of the turn, those of earlier steps included.
    """
    known = {
        approval.sequence: ApprovalAnswer(approval.approved, approval.reason, approval.input_digest)
        for approval in approvals
        if approval.approved is not None
    }
    return ResumedStep(step, tuple((call, known.get(call.sequence)) for call in calls))


def unanswered_calls(blocks: Sequence[Block], *, with_cut: bool = False) -> list[Block]:
    """Return the tool calls that have no complete result. `with_cut`: also calls that were cut off."""
    answered = Counter(call_id(block) for block in blocks if is_client_result(block) and not block.partial)
    unanswered: list[Block] = []
    for block in blocks:
        if not is_client_call(block) or (block.partial and not with_cut):
            continue
        if answered[call_id(block)]:
            answered[call_id(block)] -= 1
        else:
            unanswered.append(block)
    return unanswered


def noted_results(rows: Sequence[BlockRecord], runs: Sequence[ToolRun]) -> dict[int, ToolOutput]:
    """Return the results of calls that have begun, by the sequence of the call: the noted result, or unknown.

    Args:
        rows: Stored blocks of the turn.
        runs: The turn's calls in the ledger of tool calls.
    """
    results = {
        run.first_seq: OUTCOME_UNKNOWN
        if run.output is None
        else ToolOutput(run.output, is_error=bool(run.is_error))
        for run in runs
    }
    return {row.block.sequence: results[row.first_seq] for row in rows if row.first_seq in results}


def _ends_step(blocks: Sequence[Block], place: int, block: Block) -> bool:
    """Return True if the results of a step end with this block."""
    return is_client_result(block) and (place + 1 == len(blocks) or not is_client_result(blocks[place + 1]))


def _after(blocks: Sequence[Block]) -> int:
    return max((block.sequence + 1 for block in blocks), default=0)
