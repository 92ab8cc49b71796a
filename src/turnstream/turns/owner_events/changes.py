"""Wakes an owner's watchers when the owner's chats change, and shares one read among these watchers.

a write is committed ─► changed(owner) ─► its watchers are woken ─► after(scope, moment): one read for all
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from turnstream.errors import StoreError
from turnstream.store.announcements import AnnouncementPage, AnnouncementsAfter, LatestMoments, Scope
from turnstream.store.base import Store

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 0.25
"""Seconds between two reads of the changes of other nodes."""
PAGE = 32
"""Announcements that are read at a time."""


class Changes:
    """Wakes the watchers of owners. `closed`: True once no turn runs any more. Streams end then."""

    def __init__(self, store: Store) -> None:
        self.closed = False
        self._store = store
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._versions: dict[str, int] = {}
        """Number of changes of each watched owner."""
        self._reads: dict[tuple[Scope, int, int], asyncio.Task[AnnouncementPage]] = {}
        """Reads under way, by scope, moment and version."""
        self._latest: dict[str, int] = {}
        """Moment of the last known change of each watched owner, as the database has it."""
        store.on_change = self.changed

    def watch(self, owner: str, wake: Callable[[], None]) -> None:
        """Call `wake` after each change of the owner's chats, until `unwatch`."""
        self._watchers.setdefault(owner, set()).add(wake)
        self._versions.setdefault(owner, 0)

    def unwatch(self, owner: str, wake: Callable[[], None]) -> None:
        """Stop calling `wake`."""
        watchers = self._watchers.get(owner, set())
        watchers.discard(wake)
        if not watchers:
            self._watchers.pop(owner, None)
            self._versions.pop(owner, None)

    def changed(self, owner: str) -> None:
        """Wake the watchers of an owner. The change is committed."""
        if owner in self._watchers:
            self._versions[owner] += 1
            self._wake(owner)

    async def run(self) -> None:
        """Look regularly for changes that other nodes commit, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            try:
                await self.look()
            except StoreError as error:
                logger.warning("changes of other nodes cannot be read: %s", error)
            except Exception:
                logger.exception("a read of the changes of other nodes failed; the next one is tried")

    async def look(self) -> None:
        """Wake the watchers of the owners whose chats have changed since the last look. Raises StoreError."""
        if not self._watchers:
            self._latest = {}
            return
        known, self._latest = (
            self._latest,
            await self._store.read(LatestMoments(owners=tuple(self._watchers))),
        )
        for owner, moment in self._latest.items():
            if known.get(owner) != moment:
                self.changed(owner)

    def close(self) -> None:
        """End all streams, once they have sent everything."""
        self.closed = True
        for owner in list(self._watchers):
            self._wake(owner)

    def _wake(self, owner: str) -> None:
        for wake in tuple(self._watchers[owner]):
            wake()

    async def after(self, scope: Scope, moment: int) -> AnnouncementPage:
        """Return the next announcements after `moment`. Raises StoreError.

        Watchers at the same moment share a read that began after the last change.
        """
        key = (scope, moment, self._versions.get(scope.owner, 0))
        task = self._reads.get(key)
        if task is None:
            reading = self._store.read(AnnouncementsAfter(scope=scope, moment=moment, limit=PAGE))
            task = self._reads[key] = asyncio.ensure_future(reading)
            task.add_done_callback(partial(self._forget, key))
        return await asyncio.shield(task)

    def _forget(self, key: tuple[Scope, int, int], task: asyncio.Task[AnnouncementPage]) -> None:
        del self._reads[key]
        if not task.cancelled():
            task.exception()  # each caller gets it, unless all of them have left
