"""Writes of a turn's blocks and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from sqlalchemy import Connection, delete

from turnstream.core.blocks import Block
from turnstream.errors import Fenced
from turnstream.store.base import Annotation, BlockRecord, Operation
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
from turnstream.store.operations.tool_runs import forget_result
from turnstream.store.rows import block_row
from turnstream.store.schema import annotations, blocks


class SaveBlock(Operation[None], frozen=True, kw_only=True, gc=False):
    """Stores a closed block. Its segments in the journal do not count any more.

    Storing the same block again changes nothing. Raises Fenced if the turn has ended or has another
    generation.
    """

    generation: int
    row: BlockRecord

    batched: ClassVar[bool] = True

    def apply(self, connection: Connection) -> None:
        (answer,) = self.apply_many(connection, (self,))
        if answer is not None:
            raise answer

    @classmethod
    def apply_many(cls, connection: Connection, operations: Sequence[Operation[Any]]) -> list[Fenced | None]:
        saves = cast("Sequence[SaveBlock]", operations)
        rows = [(*block_row(save.row), save.generation) for save in saves]
        written = driver_of(connection).insert_for_turns(connection, blocks, rows)
        answers: list[Fenced | None] = [None] * len(saves)
        if written != len(saves):
            states = turn_states(connection, {save.row.turn_id for save in saves})
            answers = [refusal(states.get(save.row.turn_id), save.generation) for save in saves]
        for save, refused in zip(saves, answers, strict=True):
            # The ledger's copy is needed only if another executor continues the turn.
            if save.row.block.block_type == "tool_result" and refused is None:
                forget_result(connection, save.row.turn_id, save.row.block)
        return answers


class SaveAnnotations(Operation[None], frozen=True, kw_only=True):
    """Stores durable events that do not belong to a block.

    An event whose seq is stored is not changed. Raises Fenced.
    """

    generation: int
    rows: tuple[Annotation, ...]

    def apply(self, connection: Connection) -> None:
        require_executor(connection, self.turn_id, self.generation)
        if self.rows:
            rows = [(self.turn_id, row.seq, row.event.decode("utf-8", "replace")) for row in self.rows]
            driver_of(connection).insert(connection, annotations, rows)


class RedactUserTurn(Operation[None], frozen=True, kw_only=True):
    """Replaces the blocks of the user's turn, and stores the event that says so. Raises Fenced.

    Attributes:
        asked_turn_id: The user's turn, which this turn answers.
        block_id: Id of the row of the only block that the user's turn has now.
        at: Time of the redaction, in microseconds since the epoch.
        rows: The event.
    """

    generation: int
    asked_turn_id: str
    block_id: str
    replacement: str
    at: int
    rows: tuple[Annotation, ...]

    def apply(self, connection: Connection) -> None:
        SaveAnnotations(turn_id=self.turn_id, generation=self.generation, rows=self.rows).apply(connection)
        connection.execute(delete(blocks).where(blocks.c.turn_id == self.asked_turn_id))
        block = Block(0, "text", self.replacement)
        row = block_row(BlockRecord(self.block_id, self.asked_turn_id, block, 1, 1, self.at))
        driver_of(connection).insert(connection, blocks, [row])
