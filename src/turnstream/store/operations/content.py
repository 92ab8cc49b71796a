"""Writes of what a turn holds: blocks, annotations, the journal of open blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

from sqlalchemy import Connection, delete, insert

from turnstream.errors import Fenced
from turnstream.store.base import Annotation, BlockRecord, JournalSegment, Operation
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
from turnstream.store.pages import page_of
from turnstream.store.rows import block_row
from turnstream.store.schema import annotations, blocks, journal

_INSERT_PAGE = insert(journal).returning(journal.c.page)


class SaveBlock(Operation[None], frozen=True, kw_only=True, gc=False):
    """Store a closed block. What the journal has of it counts no longer. The same block again changes nothing.

    Raises Fenced when the turn has ended or has another generation.
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
    """Store lasting events. Those whose seq exists stay as they are. Raises Fenced."""

    generation: int
    rows: tuple[Annotation, ...]

    def apply(self, connection: Connection) -> None:
        require_executor(connection, self.turn_id, self.generation)
        if self.rows:
            rows = [(self.turn_id, row.seq, row.event.decode("utf-8", "replace")) for row in self.rows]
            driver_of(connection).insert(connection, annotations, rows)


class JournalPage(NamedTuple):
    """A page that was written: its number, and its size in characters."""

    number: int
    size: int


class AppendJournal(Operation[JournalPage], frozen=True, kw_only=True):
    """Add a page with segments of any number of turns. Nothing is looked up: those of blocks that are stored by now, and of
    turns that have ended or are gone, are passed over where the journal is read (`queries.Journal`). The same segments again
    change nothing for who reads it."""

    segments: tuple[JournalSegment, ...]

    def apply(self, connection: Connection) -> JournalPage:
        page = page_of(self.segments)
        number = connection.execute(_INSERT_PAGE, {"segments": page}).scalar_one()
        return JournalPage(number, len(page))


class TrimJournal(Operation[None], frozen=True, kw_only=True):
    """Delete the journal's pages before the page `before`; None: all."""

    before: int | None

    def apply(self, connection: Connection) -> None:
        older = delete(journal)
        if self.before is not None:
            older = older.where(journal.c.page < self.before)
        connection.execute(older)
