"""The tasks that run as long as an engine is open."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from turnstream.chat_titles import TitleWriter
from turnstream.errors import NotStarted, StoreError
from turnstream.nodes.heartbeats import Heartbeats
from turnstream.nodes.node import OwnNode
from turnstream.server.context import ServerContext
from turnstream.store.nodes import ListNodes
from turnstream.store.sql import SqlStore
from turnstream.turns.commands import Commands
from turnstream.turns.ended_hooks import TurnEndHooks
from turnstream.turns.journal import JournalKeeper
from turnstream.turns.mirrors.signals import NodeSignals
from turnstream.turns.takeover.claiming import Claiming

DATABASE_CHECK_SECONDS = 10.0
"""Seconds between two checks of the database file."""
READY_SECONDS = 2.0
"""Seconds in which the database must answer a server that is ready."""
RECOVERY_HEAD_START = 2.0
"""Seconds that the engine waits for recovery before it serves. Recovery is nearly always done by then."""
logger = logging.getLogger(__name__)


class WorkingParts(NamedTuple):
    """The parts of an engine that have tasks.

    `title_model`: `provider/model` that makes the titles of chats, or None.
    """

    store: SqlStore
    node: OwnNode
    context: ServerContext
    journal: JournalKeeper
    end_hooks: TurnEndHooks
    title_model: str | None = None

    @property
    def commands(self) -> Commands:
        """The commands of turns."""
        return self.context.commands


class BackgroundWork:
    """Runs the tasks of an engine's parts."""

    def __init__(self, parts: WorkingParts) -> None:
        self._parts = parts
        commands = parts.commands
        self._claiming = Claiming(parts.store, parts.node, commands.registry, commands.recovery)
        registry = commands.registry
        self._heartbeats = Heartbeats(parts.store, parts.node, lambda: registry.draining, self._regain_lease)
        mirrors = commands.mirrors
        mirrors.feed.append = commands.hand_over.append = commands.restarts.append = parts.journal.append
        self._signals = NodeSignals(parts.store, commands.registry, parts.node, parts.journal, mirrors.feed)
        self._titles = TitleWriter(commands, parts.title_model)
        commands.registry.on_turn_end = self._ended
        parts.commands.registry.on_withdrawal = parts.journal.renew_soon
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the tasks. The store is open.

        Wait for recovery, for RECOVERY_HEAD_START seconds at most. After that, a lost turn is recovered when
        a watcher or a command needs it.

        Raises StoreError if this process cannot join the nodes of its database.
        """
        parts, commands = self._parts, self._parts.commands
        await self._heartbeats.join()
        if parts.node.is_shared:
            commands.registry.transient.home = parts.node.id
        parts.journal.hold()
        tried = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._recover(tried), name="turnstream recovery"),
            loop.create_task(self._heartbeats.run(), name="turnstream heartbeats"),
            loop.create_task(self._claiming.run(), name="turnstream claims"),
            loop.create_task(parts.journal.run(), name="turnstream journal"),
            loop.create_task(commands.mirrors.run(), name="turnstream mirrors"),
            loop.create_task(self._signals.run(), name="turnstream signals"),
            loop.create_task(self._follow_changes(), name="turnstream changes"),
            loop.create_task(commands.registry.run_sweeps(), name="turnstream sweeps"),
            loop.create_task(commands.approvals.run(), name="turnstream approvals"),
            loop.create_task(self._check_database(), name="turnstream database"),
            loop.create_task(commands.chats.purge_all(), name="turnstream deleted chats"),
            loop.create_task(parts.context.keep_alive.run(), name="turnstream keep-alive"),
            loop.create_task(parts.end_hooks.run(tried), name="turnstream turn-end hooks"),
            loop.create_task(self._titles.run(), name="turnstream titles"),
        ]
        try:
            async with asyncio.timeout(RECOVERY_HEAD_START):
                await tried.wait()
        except TimeoutError:
            logger.warning("serving already: turns of a stopped server are still being recovered")

    def health(self) -> str | None:
        """Return the reason if the process must be restarted, else None."""
        return self._parts.store.health()

    async def unready(self) -> dict[str, str]:
        """Return the reasons why no new requests should come to this process, by their codes.

        `draining`: it is being stopped. `database`: the database does not answer. `lease`: other nodes may
        have taken its turns over.
        """
        parts, reasons = self._parts, dict[str, str]()
        if parts.commands.registry.draining:
            reasons["draining"] = "the server is being stopped"
        if (reason := parts.store.health() or parts.store.outage_reason()) is not None:
            reasons["database"] = reason
        else:
            try:
                await parts.store.read(ListNodes(), seconds=READY_SECONDS)
            except (StoreError, NotStarted) as error:
                logger.warning("the server is not ready: %s", error)
                reasons["database"] = "the database does not answer"
        if not parts.node.lease.is_valid:
            reasons["lease"] = "the node's lease has lapsed: its heartbeats do not reach the database"
        return reasons

    async def stop(self) -> None:
        """Cancel the tasks, and wait until they have ended. Does nothing if they were not started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self._parts.journal.close()
            await self._heartbeats.end()

    def _ended(self, turn_id: str) -> None:
        self._parts.end_hooks.ended(turn_id)
        self._titles.ended(turn_id)

    async def _regain_lease(self) -> None:
        """Stop the turns that other nodes have claimed, and write the journal anew."""
        await self._claiming.supersede_claimed()
        self._parts.journal.renew_soon()

    async def _follow_changes(self) -> None:
        """Follow the changes that other nodes commit, if the database is shared."""
        if self._parts.node.is_shared:
            await self._parts.context.events.changes.run()

    async def _check_database(self) -> None:
        """Check the database file regularly."""
        while True:
            await asyncio.sleep(DATABASE_CHECK_SECONDS)
            self._parts.store.health()

    async def _recover(self, tried: asyncio.Event) -> None:
        """End the turns that a stopped process left unfinished. Then let the journal delete pages again."""
        await self._parts.commands.recovery.run(tried=tried)
        self._parts.journal.release()
