"""Watchers of a scripted turn in any dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.turnlog.scripted import ListArchive, ScriptedTurn, Ticks
from tests.turnlog.test_subscription_properties import Action, log_of_rows
from turnstream.turnlog.base import DialectEncoder
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turnlog.log import TurnLog


class Fold(Protocol):
    """A client that takes whole frames."""

    def receive(self, data: bytes) -> None: ...


class DialectWatcher:
    """A client and its subscription. Its connection takes pieces at once while it has room."""

    def __init__(
        self, log: TurnLog, archive: ListArchive, encoder: DialectEncoder, fold: Fold, *, is_exact: bool
    ) -> None:
        self.fold = fold
        self.room = 0
        self.subscription = DialectSubscription(log, archive, encoder, is_exact=is_exact)
        self.reading: asyncio.Task[bytes | None] | None = None

    def take(self, data: bytes) -> bool:
        self.room -= 1
        if self.room >= 0:
            self.fold.receive(data)
        return self.room >= 0

    def read(self, room: int) -> bool:
        """Take the pieces of the last read, and begin another. Return False at the end."""
        if self.reading is not None and self.reading.done():
            data, self.reading = self.reading.result(), None
            if data is None:
                return False
            self.fold.receive(data)
        if self.reading is None:
            self.room = room
            coming = self.subscription.next(self.take if room else None)
            self.reading = asyncio.get_running_loop().create_task(coming)
        return True

    async def read_to_the_end(self) -> None:
        while self.read(0):
            assert self.reading is not None
            await asyncio.wait([self.reading])


async def play(
    turn: ScriptedTurn,
    actions: Sequence[Action],
    ticks: Sequence[int],
    dialect: Callable[[], tuple[DialectEncoder, Fold]],
    *,
    exact: bool = True,
) -> list[DialectWatcher]:
    """Let watchers join and read while the turn runs, and others after its end. All read to the end.

    exact: Some watchers get each event singly. Else all begin with a catch-up.
    """
    archive_ticks = Ticks(ticks)

    def join(log: TurnLog, *, is_exact: bool) -> DialectWatcher:
        archive = ListArchive(turn.store, archive_ticks, log)
        return DialectWatcher(log, archive, *dialect(), is_exact=is_exact)

    watchers: dict[int, DialectWatcher] = {}
    task = turn.begin()
    for action in actions:
        if action.kind == "read" and action.watcher not in watchers:
            watchers[action.watcher] = join(turn.log, is_exact=exact and bool(action.number % 2))
        elif action.kind == "read" and not watchers[action.watcher].subscription.at_end:
            watchers[action.watcher].read(action.number % 4)
        await asyncio.sleep(0)
    await task
    late = [join(log, is_exact=one) for log in (turn.log, log_of_rows(turn)) for one in {False, exact}]
    for watcher in [*watchers.values(), *late]:
        await watcher.read_to_the_end()
    return [*watchers.values(), *late]
