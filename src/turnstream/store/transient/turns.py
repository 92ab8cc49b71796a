"""All transient turns of a process: those that run, and for some time those that have ended."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from turnstream.core.identifiers import new_id
from turnstream.store.base import TurnRecord
from turnstream.store.transient.turn_rows import EndedRows, TransientRows, ended_rows

MAX_ENDED = 10_000
MAX_ENDED_BYTES = 64 * 1024 * 1024
"""Limits of the ended turns in memory: their number and their bytes. The oldest are dropped first."""

NameKind: TypeAlias = Literal["key", "request", "chat", "message", "run"]


class TurnName(NamedTuple):
    """A name by which a turn can be found.

    Attributes:
        kind: `key`: an idempotency key. `request`: the key with its request's fingerprint. The others: a
            client's id of the turn's chat, of its user's message, or of the turn.
    """

    owner: str
    kind: NameKind
    name: str


class TransientTurns:
    """Keeps transient turns in memory. No other copy exists. An ended turn is dropped after some time.

    Args:
        retention: Seconds that an ended turn is kept.

    Attributes:
        home: Name of this process. The ids of its turns carry it as their mark (`core.identifiers.new_id`).
    """

    def __init__(self, *, retention: float = 600.0) -> None:
        self._retention = retention
        self.home = new_id()
        self._running: dict[str, TransientRows] = {}
        self._ended: OrderedDict[str, EndedRows] = OrderedDict()
        """Ended turns, oldest first."""
        self._ended_bytes = 0
        self._named: dict[TurnName, str] = {}
        self._names: dict[str, tuple[TurnName, ...]] = {}

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self._running or turn_id in self._ended

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    def add(self, turn: TurnRecord, names: Iterable[TurnName] = ()) -> None:
        """Keep a turn that begins."""
        self._running[turn.id] = TransientRows(turn)
        if given := tuple(names):
            self._names[turn.id] = given
            self._named.update(dict.fromkeys(given, turn.id))

    def rename(self, turn_id: str, name: TurnName) -> None:
        """Give a turn another name."""
        self._names[turn_id] = (*self._names.get(turn_id, ()), name)
        self._named[name] = turn_id

    def rows(self, turn_id: str) -> TransientRows | None:
        """Return the records of a turn, or None. The records of an ended turn are a copy."""
        running = self._running.get(turn_id)
        if running is None and (ended := self._ended.get(turn_id)) is not None:
            return ended.rows()
        return running

    def named(self, name: TurnName) -> TurnRecord | None:
        """Return the newest turn with this name, or None."""
        turn_id = self._named.get(name)
        return None if turn_id is None else self._turn(turn_id)

    def of_chat(self, chat_id: str) -> Iterator[TurnRecord]:
        """Yield the turns of a chat, the newest first."""
        found = [rows.turn for rows in self._running.values() if rows.turn.chat_id == chat_id]
        found += [ended.turn for ended in self._ended.values() if ended.turn.chat_id == chat_id]
        yield from sorted(found, key=lambda turn: turn.id, reverse=True)

    def end(self, turn_id: str, now: float) -> None:
        """Keep a turn as ended. `now`: time on the monotonic clock."""
        rows = self._running.pop(turn_id)
        ended = self._ended[turn_id] = ended_rows(rows, now)
        self._ended_bytes += ended.size
        while self._ended_bytes > MAX_ENDED_BYTES or len(self._ended) > MAX_ENDED:
            self.drop(next(iter(self._ended)))

    def sweep(self, now: float) -> None:
        """Drop the turns that ended long ago."""
        while self._ended:
            turn_id, ended = next(iter(self._ended.items()))
            if now - ended.at < self._retention:
                break
            self.drop(turn_id)

    def drop(self, turn_id: str) -> None:
        """Drop a turn that has ended, if it is still there."""
        if (ended := self._ended.pop(turn_id, None)) is None:
            return
        self._ended_bytes -= ended.size
        for name in self._names.pop(turn_id, ()):
            if self._named.get(name) == turn_id:
                del self._named[name]

    def _turn(self, turn_id: str) -> TurnRecord | None:
        running = self._running.get(turn_id)
        if running is not None:
            return running.turn
        ended = self._ended.get(turn_id)
        return None if ended is None else ended.turn
