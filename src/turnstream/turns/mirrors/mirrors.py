"""Mirrors: logs of turns that other nodes write. All watchers of a turn on this node share its mirror.

    a watcher ─► log_of ─► the turn's state from the store ─► its log
                   the feed: pages of the turn's owner ─► the log
                   the turn's row, read regularly: another owner, the end, answers of approvals ─► the log

A mirror never ends a turn. It ends with the turn's row, or when no watcher holds its log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

from turnstream.core.cursor import Cursor
from turnstream.core.lifecycle import TERMINAL_STATUSES, has_executor
from turnstream.core.turn_events import TurnError
from turnstream.errors import NotFound, StoreError
from turnstream.store.base import Store, TurnRecord
from turnstream.store.journal.following import ReadHeads, ReadUnfinished, TurnHead
from turnstream.store.journal.items import FeedItem
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.mirror import Mirror, follow
from turnstream.turnlog.pages_feed import PagesFeed
from turnstream.turns.failures import CHAT_DELETED
from turnstream.turns.mirrors.remote_turns import RemoteTurns
from turnstream.turns.mirrors.states import read_items
from turnstream.turns.model_turns import ModelTurns
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)

CHECK_INTERVAL = 0.1
"""Seconds between two reads of the rows of all mirrored turns."""
END_GRACE = 0.3
"""Seconds that the last page of an ended turn may come after the turn's row."""
OPEN_SECONDS = 5.0
"""Seconds that a turn's state may be unreadable, because another node recovers the turn."""
STATE_PAUSE = 0.05
"""Seconds between two reads of such a state."""
RETRY_PAUSE = 0.5
"""Seconds before a failed read is retried."""


DELETED = TurnError(CHAT_DELETED.message, CHAT_DELETED.code, 0)
"""Terminal event of a turn that was deleted before its end was seen."""


class _OwnerTask(NamedTuple):
    """The task that follows the owner of a turn, and the owner."""

    owner: str | None
    task: asyncio.Task[None]


class Mirrors:
    """The mirrors of this node."""

    def __init__(self, store: Store, registry: Registry, turns: ModelTurns, remote: RemoteTurns) -> None:
        self.feed = PagesFeed(store, self._owner_of, lag=turns.node.measures.feed_lag)
        self.is_elsewhere = remote.is_elsewhere
        self._store = store
        self._registry = registry
        self._turns = turns
        self._node = turns.node
        registry.publishes = self._node.is_shared
        registry.adopt = self.adopt
        self._logs: WeakValueDictionary[str, TurnLog] = WeakValueDictionary()
        """Logs of turns that other nodes write, as long as watchers hold them."""
        self._followed: dict[str, _OwnerTask] = {}
        self._opening: dict[str, asyncio.Task[TurnLog]] = {}
        self._ended_at: dict[str, float] = {}
        """Times at which rows of mirrored turns were first seen ended."""

    @property
    def count(self) -> int:
        """Number of mirrors."""
        return len(self._logs)

    def known(self, turn_id: str) -> TurnLog | None:
        """Return the mirror of a turn, or None if there is none."""
        log = self._logs.get(turn_id)
        return None if log is None or log.closed else log

    async def log_of(self, turn: TurnRecord) -> TurnLog:
        """Return the log of a turn that another node writes. The caller holds it.

        Raises NotFound, and StoreError if the turn's state cannot be read.
        """
        if (log := self.known(turn.id)) is not None:
            return log
        task = self._opening.get(turn.id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._open(turn), name=f"mirror of {turn.id}")
            self._opening[turn.id] = task
            task.add_done_callback(partial(self._opened, turn.id))
        return await asyncio.shield(task)

    def adopt(self, log: TurnLog) -> bool:
        """Feed the log of a turn that ran here, and that another node has claimed.

        Return False if the log is closed. The next check finds the turn's owner. Watchers above the fence get
        the notice `truncated`.
        """
        if not log.closed:
            self._logs[log.turn_id] = log
        return not log.closed

    def release(self, turn_id: str) -> TurnLog | None:
        """Stop feeding the log of a turn that this node writes now. Return the log, or None."""
        self._unfollow(turn_id)
        return self._logs.pop(turn_id, None)

    async def open_block(self, turn_id: str) -> int | None:
        """Return the index of the block that another node writes, or None. Raises NotFound, StoreError."""
        if (log := self.known(turn_id)) is not None:
            return None if log.open_block is None else log.open_block.sequence
        state = await self._store.read(ReadUnfinished(turn_id=turn_id))
        return state.segments[-1].sequence if state.segments else None

    async def run(self) -> None:
        """Compare the mirrors with their turns' rows regularly, until cancelled."""
        while self._node.is_shared:
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                await self.check()
            except StoreError as error:
                logger.warning("the rows of mirrored turns cannot be read: %s", error)
                await asyncio.sleep(RETRY_PAUSE)
            except Exception:
                logger.exception("a check of the mirrored turns failed; the next one is tried")

    async def close(self) -> None:
        """End all mirrors. Their watchers are disconnected, and may resume at another node."""
        await self.feed.close()
        tasks = [*(followed.task for followed in self._followed.values()), *self._opening.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for log in list(self._logs.values()):
            log.close()

    async def check(self) -> None:
        """Read the rows of all mirrored turns, and bring the mirrors to their state. Raises StoreError."""
        logs = self._live_logs()
        for turn_id in [turn_id for turn_id in self._followed if turn_id not in logs]:
            self._unfollow(turn_id)
        if not logs:
            self._ended_at.clear()
            return
        heads = await self._store.read(ReadHeads(turn_ids=tuple(logs)))
        for turn_id, log in logs.items():
            if log.terminal is None and self._registry.executor(turn_id) is None:
                await self._compare(log, heads.get(turn_id))

    def _live_logs(self) -> Mapping[str, TurnLog]:
        """Return the logs that are fed here: mirrors, and logs of waiting turns."""
        logs = {**self._registry.waiting_logs, **self._logs}
        return {
            turn_id: log
            for turn_id, log in logs.items()
            if log.terminal is None and not log.closed and self._registry.executor(turn_id) is None
        }

    async def _compare(self, log: TurnLog, head: TurnHead | None) -> None:
        turn_id = log.turn_id
        if head is None or head.status in TERMINAL_STATUSES:
            now = asyncio.get_running_loop().time()
            if now - self._ended_at.setdefault(turn_id, now) >= END_GRACE:
                await self._catch_up(log)
            return
        if head.generation > log.generation or head.stored_seq > log.head:
            await self._catch_up(log)
        followed = self._followed.get(turn_id)
        if head.node in {None, self._node.id}:
            self._unfollow(turn_id)
        elif followed is None or followed.owner != head.node or followed.task.done():
            self._follow(log, head.node)

    async def _open(self, turn: TurnRecord) -> TurnLog:
        items = await self._state(turn.id)
        if (executor := self._registry.executor(turn.id)) is not None:
            return executor.log  # this node has taken the turn over meanwhile
        log = self.known(turn.id) or self._registry.waiting_logs.get(turn.id)
        if log is None or log.closed:
            log = self._turns.log_of(turn)
        mirror = Mirror(log)
        for item in items:
            mirror.take(item)
        if log.terminal is None:
            self._follow(log, turn.node)
        return log

    def _opened(self, turn_id: str, task: asyncio.Task[TurnLog]) -> None:
        del self._opening[turn_id]
        if not task.cancelled():
            task.exception()  # each caller gets it, unless all of them have left

    async def _state(self, turn_id: str) -> Sequence[FeedItem]:
        """Return the turn's state, once it can be read. Raises NotFound, StoreError."""
        deadline = asyncio.get_running_loop().time() + OPEN_SECONDS
        while not (items := await read_items(self._store, turn_id)):
            if asyncio.get_running_loop().time() > deadline:
                raise StoreError("another node recovers this turn: try again in a moment")
            await asyncio.sleep(STATE_PAUSE)
        return items

    async def _owner_of(self, turn_id: str) -> str | None:
        heads = await self._store.read(ReadHeads(turn_ids=(turn_id,)))
        head = heads.get(turn_id)
        return head.node if head is not None and has_executor(head.status) else None

    async def _catch_up(self, log: TurnLog) -> None:
        """Bring a log to its turn's stored state. Raises StoreError."""
        mirror = Mirror(log)
        try:
            for item in await read_items(self._store, log.turn_id):
                mirror.take(item)
        except NotFound:
            if log.terminal is None:
                log.ended_unstored((), DELETED)

    def _follow(self, log: TurnLog, owner: str | None) -> None:
        """Begin to feed a log from the pages of `owner`."""
        self._unfollow(log.turn_id)
        self._logs[log.turn_id] = log
        task = asyncio.get_running_loop().create_task(
            self._run_feed(log.turn_id, log.head_cursor), name=f"feed of {log.turn_id}"
        )
        self._followed[log.turn_id] = _OwnerTask(owner, task)

    async def _run_feed(self, turn_id: str, cursor: Cursor) -> None:
        """Feed a log until its turn ends or moves, or no watcher holds it. `check` may start another feed."""
        try:
            await follow(
                self.feed,
                cursor,
                partial(self._logs.get, turn_id),
                partial(read_items, self._store, turn_id),
            )
        except (NotFound, StoreError) as error:
            logger.warning("turn %s: its owner's pages cannot be followed now: %s", turn_id, error)

    def _unfollow(self, turn_id: str) -> None:
        followed = self._followed.pop(turn_id, None)
        self._ended_at.pop(turn_id, None)
        if followed is not None:
            followed.task.cancel()
