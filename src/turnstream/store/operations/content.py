"""Writes of a turn's blocks and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from sqlalchemy import Connection

from turnstream.errors import Fenced
from turnstream.store.base import Annotation, BlockRecord, Operation
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
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
        if written == len(saves):
            return [None] * written
        states = turn_states(connection, {save.row.turn_id for save in saves})
        return [refusal(states.get(save.row.turn_id), save.generation) for save in saves]


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
