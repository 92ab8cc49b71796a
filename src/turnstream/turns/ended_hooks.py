"""The hook of a host application that runs after each turn has ended, at least once.

    a turn begins ─► its row awaits the hook ─► it ends ─► the hook returns ─► the row is marked
                                                  └─ the process dies: the next start finds the row

The row is the queue. This module keeps only the ids of turns that are due now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from turnstream.core.usage import CallAttempt
from turnstream.errors import NotFound, StoreError
from turnstream.store.base import BlockRecord, Store, TurnRecord
from turnstream.store.ended_turns import AwaitingHook, HookDone
from turnstream.store.queries import AllBlocks, AttemptsOfTurn, GetTurn
from turnstream.turns.preparation import call_hook

logger = logging.getLogger(__name__)

HOOK_SECONDS = 30.0
"""Seconds that one call of the hook has."""
WORKERS = 8
"""Calls of the hook at a time."""
MAX_DUE = 10_000
"""Turns that are due, in memory. Further turns are found in the store."""
SCAN_SECONDS = 30.0
"""Seconds between two scans of the store for turns that await the hook."""
FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0
"""Seconds before a failed call is repeated, at least and at most."""
CLOSE_SECONDS = 5.0
"""Seconds that a stopping engine waits for the calls of turns that have just ended."""
_PAGE = 100


class FinishedTurn(NamedTuple):
    """A turn that has ended, as the hook gets it.

    Attributes:
        turn: The turn's row, with its status, usage, cost and metadata.
        blocks: The turn's blocks, in order.
        attempts: The model calls of the turn.
    """

    turn: TurnRecord
    blocks: tuple[BlockRecord, ...]
    attempts: tuple[CallAttempt, ...]


TurnEndHook: TypeAlias = Callable[[FinishedTurn], object]
"""A function, or a coroutine function. A turn may be passed more than once."""


class TurnEndHooks:
    """Calls the hook for each ended turn until it returns. `run` is the task that owns the calls.

    `hook`: Function to call, or None to call nothing.
    """

    def __init__(self, store: Store, hook: TurnEndHook | None) -> None:
        self._store = store
        self._hook = hook
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._known: set[str] = set()
        """Turns that are due, in a call, or wait for a retry."""
        self._failures: dict[str, int] = {}
        """Number of failed calls by turn."""

    def ended(self, turn_id: str) -> None:
        """Call the hook for a turn soon. Its end is stored."""
        if self._hook is not None and turn_id not in self._known and len(self._known) < MAX_DUE:
            self._known.add(turn_id)
            self._due.put_nowait(turn_id)

    async def run(self, recovered: asyncio.Event) -> None:
        """Call the hook until cancelled. `recovered`: set once the turns of a stopped process have ended."""
        if self._hook is None:
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(self._hook), name="turnstream turn-end hook")
            await recovered.wait()
            while True:
                await self._scan()
                await asyncio.sleep(SCAN_SECONDS)

    async def flush(self) -> None:
        """Wait up to CLOSE_SECONDS for the calls that are due. The remaining calls come at the next start."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._due.join()
        except TimeoutError:
            logger.warning("the turn-end hook is called for %d turns at the next start", len(self._known))

    async def _scan(self) -> None:
        """Find the ended turns that still await the hook."""
        after = ""
        try:
            while len(self._known) < MAX_DUE:
                page = await self._store.read(AwaitingHook(after=after, limit=_PAGE))
                for turn_id in page:
                    self.ended(turn_id)
                if len(page) < _PAGE:
                    return
                after = page[-1]
        except StoreError as error:
            logger.warning("turns that await the turn-end hook cannot be read: %s", error)

    async def _work(self, hook: TurnEndHook) -> None:
        while True:
            turn_id = await self._due.get()
            try:
                retry = await self._deliver(hook, turn_id)
            finally:
                self._due.task_done()
            if retry is None:
                self._known.discard(turn_id)
                self._failures.pop(turn_id, None)
            else:
                asyncio.get_running_loop().call_later(retry, self._due.put_nowait, turn_id)

    async def _deliver(self, hook: TurnEndHook, turn_id: str) -> float | None:
        """Call the hook for a turn, and mark the turn. Return the seconds to a retry, or None."""
        try:
            async with asyncio.timeout(HOOK_SECONDS):
                finished = await self._read(turn_id)
                await call_hook(hook, finished)
            await self._store.write(HookDone(turn_id=turn_id))
        except NotFound:
            return None  # the chat was deleted
        except Exception as error:
            failures = self._failures[turn_id] = self._failures.get(turn_id, 0) + 1
            pause = min(FIRST_RETRY * 2 ** min(failures - 1, 20), LONGEST_RETRY)
            is_own = isinstance(error, StoreError)
            logger.log(
                logging.WARNING if is_own else logging.ERROR,
                "turn %s: its turn-end hook failed, and is called again in %g s: %r",
                turn_id,
                pause,
                error,
                exc_info=None if is_own else error,
            )
            return pause
        return None

    async def _read(self, turn_id: str) -> FinishedTurn:
        turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id))
        blocks = tuple(await self._store.read(AllBlocks(turn_id=turn_id)))
        return FinishedTurn(turn, blocks, tuple(await self._store.read(AttemptsOfTurn(turn_id=turn_id))))
