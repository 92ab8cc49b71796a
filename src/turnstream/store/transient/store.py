"""The store of an engine: transient turns in memory, and everything else in a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import Any, TypeVar, cast

import msgspec

from turnstream.core.identifiers import has_home, is_of_home
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.errors import NotFound
from turnstream.store.archive import ArchivedAfter, ArchivedBlock
from turnstream.store.base import Operation, Query, Store, TurnRecord
from turnstream.store.client_ids import ChatOfClient, FindRun, RunOfClient, TurnOfClient
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.opening import NameRun
from turnstream.store.queries import CurrentAnswers, GetTurn
from turnstream.store.transient.turn_rows import READS, WRITES, TransientRows
from turnstream.store.transient.turns import TransientTurns, TurnName

Result = TypeVar("Result")

_LONG = 256 * 1024
"""Characters of a turn above which its blocks are made into frames in a thread."""


class TransientReader:
    """Reads the records of one transient turn. It holds them, so a watcher that began can read to the end."""

    __slots__ = ("_rows",)

    def __init__(self, rows: TransientRows) -> None:
        self._rows = rows

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the query's answer. See `Store.read`."""
        del seconds
        rows, kind = self._rows, type(query)
        if kind in _FRAMING and rows.size > _LONG:
            rows = msgspec.structs.replace(rows, blocks=list(rows.blocks))
            return cast("Result", await asyncio.to_thread(READS[kind], rows, query))
        return cast("Result", READS[kind](rows, query))


class LayeredStore:
    """A store whose operations and queries of transient turns use memory. All others go to `stored`.

    `retention`: seconds that an ended transient turn is kept.
    """

    def __init__(self, stored: Store, *, retention: float = 600.0) -> None:
        self.transient = TransientTurns(retention=retention)
        self.on_change: Callable[[str], None] = lambda _owner: None
        self._stored = stored
        stored.on_change = self._note_change

    async def open(self) -> None:
        """Open the database. See `Store.open`."""
        await self._stored.open()

    async def close(self) -> None:
        """Close the database. See `Store.close`."""
        await self._stored.close()

    def write(self, operation: Operation[Result]) -> CoroutineType[Any, Any, Result]:
        """Apply the operation. See `Store.write`."""
        if operation.turn_id in self.transient:
            return self._write_transient(operation)
        return self._stored.write(operation)

    async def _write_transient(self, operation: Operation[Result]) -> Result:
        turn_id = operation.turn_id
        if (apply := WRITES.get(type(operation))) is not None:
            rows = self.transient.rows(turn_id)
            return cast("Result", apply(rows, operation))  # pyright: ignore[reportArgumentType]
        if isinstance(operation, NameRun):
            name = TurnName(operation.owner, "run", operation.client_id)
            self.transient.rename(turn_id, name)
            return cast("Result", None)
        return await self._stored.write(operation)

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the query's answer. See `Store.read`."""
        if type(query) in READS:
            rows = self.transient.rows(cast("Any", query).turn_id)
            if rows is not None:
                return await TransientReader(rows).read(query)
            if isinstance(query, GetTurn):
                return cast("Result", await self._stored_turn(query, seconds))
        elif isinstance(query, ChatOfClient | TurnOfClient):
            if (found := self._named(query)) is not None:
                return cast("Result", found)
        elif isinstance(query, FindRun):
            return cast("Result", await self._run_of(query))
        elif isinstance(query, CurrentAnswers):
            current = self._current(query)
            if current:
                stored = await self._stored.read(query, seconds=seconds)
                return cast("Result", sorted([*current, *stored], key=_id_of, reverse=True))
        return await self._stored.read(cast("Query[Result]", query), seconds=seconds)

    async def _stored_turn(self, query: GetTurn, seconds: float | None) -> TurnRecord:
        """Return a turn that has rows. Raises NotFound with the code `turn_lost` for a turn that had none."""
        try:
            return await self._stored.read(query, seconds=seconds)
        except NotFound:
            turn_id = query.turn_id
            if not has_home(turn_id):
                raise
            if is_of_home(turn_id, self.transient.home):
                raise NotFound("this turn without rows was dropped after its end: ask again") from None
            nodes = await self._stored.read(ListNodes())
            if any(is_of_home(turn_id, seen.record.id) for seen in nodes if not seen.is_lapsed):
                raise NotFound("another server has this turn without rows: ask that server for it") from None
            raise NotFound(
                "this turn had no rows (`store: false`), and was lost with its server: start it again",
                code="turn_lost",
            ) from None

    async def _run_of(self, query: FindRun) -> RunOfClient:
        chat_id = self._named(ChatOfClient(owner=query.owner, client_id=query.client_chat_id))
        found = RunOfClient(chat_id, None) if chat_id is not None else await self._stored.read(query)
        if found.chat_id is None or found.turn_id is not None:
            return found
        run = TurnOfClient(owner=query.owner, client_id=query.client_id, kind="run", chat_id=found.chat_id)
        return RunOfClient(found.chat_id, self._named(run) or await self._stored.read(run))

    def _note_change(self, owner: str) -> None:
        self.on_change(owner)

    def _named(self, query: ChatOfClient | TurnOfClient) -> str | None:
        """Return the chat or the turn that a client means, if it is a transient one."""
        if isinstance(query, ChatOfClient):
            turn = self.transient.named(TurnName(query.owner, "chat", query.client_id))
            return None if turn is None else turn.chat_id
        turn = self.transient.named(TurnName(query.owner, query.kind, query.client_id))
        if turn is None and (rows := self.transient.rows(query.client_id)) is not None:
            turn = rows.turn if rows.turn.owner == query.owner else None
        return turn.id if turn is not None and query.chat_id in {None, turn.chat_id} else None

    def _current(self, query: CurrentAnswers) -> list[TurnRecord]:
        return [
            turn
            for turn in self.transient.of_chat(query.chat_id)
            if turn.status not in TERMINAL_STATUSES or (turn.completed_at or 0) >= query.since
        ]


_FRAMING = frozenset({ArchivedAfter, ArchivedBlock})
"""Queries whose time grows with the size of the blocks."""


def _id_of(turn: TurnRecord) -> str:
    return turn.id
