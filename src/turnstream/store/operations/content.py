"""Writes of what a turn holds: blocks, annotations, the journal of open blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, cast

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

from turnstream.errors import Fenced
from turnstream.store.base import Annotation, JournalSegment, Operation, StoredBlock
from turnstream.store.bulk import (
    delete_journal_of_blocks,
    insert_blocks_of_running_turns,
    insert_segments_of_open_blocks,
)
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
from turnstream.store.rows import block_row, segment_row
from turnstream.store.schema import annotations


@cache
def insert_if_absent(dialect: str, table: Table) -> Insert:
    """An insert that passes over rows whose key exists."""
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


class SaveBlock(Operation[None], frozen=True, kw_only=True, gc=False):
    """Store a closed block, and delete its journal. The same block again changes nothing.

    Raises Fenced when the turn has ended or has another generation.
    """

    generation: int
    row: StoredBlock

    batched: ClassVar[bool] = True

    def apply(self, connection: Connection) -> None:
        (answer,) = self.apply_many(connection, (self,))
        if answer is not None:
            raise answer

    @classmethod
    def apply_many(cls, connection: Connection, operations: Sequence[Operation[Any]]) -> list[Fenced | None]:
        saves = cast("Sequence[SaveBlock]", operations)
        written = insert_blocks_of_running_turns(
            connection, [(block_row(save.row), save.generation) for save in saves]
        )
        answers: list[Fenced | None]
        if written == len(saves):
            answers = [None] * written
        else:
            states = turn_states(connection, {save.row.turn_id for save in saves})
            answers = [refusal(states.get(save.row.turn_id), save.generation) for save in saves]
        delete_journal_of_blocks(
            connection,
            [
                (save.row.turn_id, save.row.block.sequence)
                for save, answer in zip(saves, answers, strict=True)
                if answer is None
            ],
        )
        return answers


class SaveAnnotations(Operation[None], frozen=True, kw_only=True):
    """Store lasting events. Those whose seq exists stay as they are. Raises Fenced."""

    generation: int
    rows: tuple[Annotation, ...]

    def apply(self, connection: Connection) -> None:
        require_executor(connection, self.turn_id, self.generation)
        if self.rows:
            connection.execute(
                insert_if_absent(connection.dialect.name, annotations),
                [
                    {"turn_id": self.turn_id, "seq": row.seq, "event": row.event.decode("utf-8", "replace")}
                    for row in self.rows
                ],
            )


class AppendJournal(Operation[None], frozen=True, kw_only=True):
    """Add segments of any number of turns in one statement. Segments of blocks that are stored by now, and of turns
    that have ended or are gone, are passed over: the writer's order makes that sure."""

    segments: tuple[JournalSegment, ...]

    def apply(self, connection: Connection) -> None:
        insert_segments_of_open_blocks(connection, [segment_row(segment) for segment in self.segments])
