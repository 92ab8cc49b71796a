"""The commands of chats: create, update and delete chats, and read their branches.

Every command takes the owner. It raises NotFound for the id of another owner's chat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from turnstream.core.admission import plain_request_json
from turnstream.core.branches import Branches
from turnstream.core.identifiers import new_id
from turnstream.core.statistics.day_range import DayRange
from turnstream.core.statistics.records import UsageStatistics
from turnstream.errors import NotFound, StoreError
from turnstream.store.base import SET_BY_STORE, ChatRecord, Store
from turnstream.store.chats.shown_events import ShownEvents
from turnstream.store.operations.chats import CreateChat, UpdateChat
from turnstream.store.operations.deleting import DeleteBlocks, DeleteChat, DeleteTurn, PurgeChat
from turnstream.store.portions import Bounds, OfTree, Portion, PortionStart, ReadPortion
from turnstream.store.queries import DeletedChats, GetChat, GetTurn
from turnstream.store.statistics.query import ReadStatistics
from turnstream.turns.approvals import ApprovalCommands
from turnstream.turns.ending import StopCause
from turnstream.turns.mirrors.remote_turns import RemoteTurns
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)

MAX_KNOWN = 10_000
PATH_PORTION = Bounds(turns=8, size=128 * 1024)
"""Bounds of the portion of a branch that is read and encoded as JSON at a time."""
LIST_PORTION = Bounds(turns=16, size=128 * 1024, blocks=False)
"""Bounds of the portion of a list of turns without blocks."""
PURGE_WAIT = 1.0
"""Seconds that the answer to a deletion waits for the rows to be deleted.

Readers no longer see the chat then.
"""
PURGE_PAUSE = 0.01
"""Seconds between deleted portions, so that other writes get through."""


class TurnPage(NamedTuple):
    """A page of a chat's turns.

    Attributes:
        turn_ids: Ids of the turns, oldest first.
        tree: The branches of the chat.
        previous: Value of `before` for the page before this one. None on the first page.
    """

    turn_ids: list[str]
    tree: Branches
    previous: str | None


class PageRequest(NamedTuple):
    """The page of a list to read: the last `limit` turns before the turn `before`.

    Attributes:
        before: Id of a turn of the list. None for the end of the list.
        limit: Number of turns. None for all.
    """

    before: str | None = None
    limit: int | None = None

    def page(self, turn_ids: list[str], tree: Branches) -> TurnPage:
        """Return the page of a list that is oldest first. Raises NotFound if `before` is not in the list."""
        if self.before is not None:
            if self.before not in turn_ids:
                raise NotFound("`before` does not name a turn of this list: give the `next` of the last page")
            turn_ids = turn_ids[: turn_ids.index(self.before)]
        if self.limit is None or len(turn_ids) <= self.limit:
            return TurnPage(turn_ids, tree, None)
        return TurnPage(turn_ids[-self.limit :], tree, turn_ids[-self.limit])


ALL = PageRequest()
Made = TypeVar("Made")


class ChatCommands:
    """The commands of chats."""

    def __init__(
        self, store: Store, registry: Registry, approvals: ApprovalCommands, remote: RemoteTurns
    ) -> None:
        self._store = store
        self._registry = registry
        self._approvals = approvals
        self._remote = remote
        self._known: dict[str, str] = {}
        """Owners of existing chats, by chat id: a cache. The entry that was added first is evicted first."""
        self._purges: set[asyncio.Task[None]] = set()

    async def create(
        self, owner: str, *, title: str | None = None, metadata: dict[str, Any] | None = None
    ) -> ChatRecord:
        """Create a chat. Raises InvalidRequest if the metadata is not JSON or nests too deeply."""
        chat = ChatRecord(new_id(), owner, title, metadata or {}, SET_BY_STORE, SET_BY_STORE)
        made = plain_request_json(chat, "the chat")
        chat = await self._store.write(CreateChat(chat=made))
        self._remember(owner, chat.id)
        return chat

    async def update(
        self,
        owner: str,
        chat_id: str,
        *,
        title: str | msgspec.UnsetType | None = msgspec.UNSET,
        metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET,
        active_turn_id: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> ChatRecord:
        """Change the given fields of a chat.

        Raises NotFound, InvalidRequest, and Conflict if `active_turn_id` is not a turn of the chat.

        Args:
            active_turn_id: Id of a turn. The branch through this turn becomes the chat's shown branch.
        """
        change = UpdateChat(
            owner=owner,
            chat_id=chat_id,
            title=title,
            metadata=metadata,
            active_turn_id=active_turn_id,
        )
        return await self._store.write(plain_request_json(change, "the chat"))

    async def branch(
        self, owner: str, chat_id: str, *, through: str | None = None, paging: PageRequest = ALL
    ) -> TurnPage:
        """Return the page of a chat's branch, as ids. Raises NotFound.

        Args:
            through: Id of a turn of the branch. None for the shown branch.
        """
        chat = await self._store.read(GetChat(owner=owner, chat_id=chat_id))

        def page(tree: Branches) -> TurnPage:
            if through is not None and not tree.siblings(through):
                raise NotFound("no such turn in this chat: list its turns")
            return paging.page(tree.path(through or chat.active_turn_id), tree)

        return await self._store.read(OfTree(chat_id=chat_id, use=page))

    async def all_turns(self, owner: str, chat_id: str, paging: PageRequest = ALL) -> TurnPage:
        """Return the page of a chat's turns of all branches, in the order of creation. Raises NotFound."""
        await self._store.read(GetChat(owner=owner, chat_id=chat_id))
        return await self._store.read(
            OfTree(chat_id=chat_id, use=lambda tree: paging.page(tree.turn_ids, tree))
        )

    async def siblings(self, owner: str, turn_id: str, paging: PageRequest = ALL) -> TurnPage:
        """Return the page of a turn and its alternatives, oldest first. Raises NotFound."""
        turn = await self._store.read(GetTurn(owner=owner, turn_id=turn_id))
        return await self._store.read(
            OfTree(chat_id=turn.chat_id, use=lambda tree: paging.page(tree.siblings(turn_id), tree))
        )

    async def statistics(
        self, owner: str, first_day: str | date | None = None, last_day: str | date | None = None
    ) -> UsageStatistics:
        """Return the statistics of the model calls in the owner's stored turns.

        Args:
            owner: The owner.
            first_day: First day of the range, in UTC, as a date or as `2026-01-31`. None: 30 days in all.
            last_day: Last day of the range. None: today.

        Raises InvalidRequest if the range has no day, or more than 366 days.
        """
        days = DayRange.of(first_day, last_day, today=datetime.now(UTC).date())
        return await self._store.read(ReadStatistics(owner=owner, days=days))

    async def shown_events(self, page: TurnPage) -> dict[str, list[bytes]]:
        """Return the sources and notices of a page's turns, as native JSON, by turn."""
        return await self._store.read(ShownEvents(turn_ids=page.turn_ids))

    async def portions(
        self, page: TurnPage, bounds: Bounds, use: Callable[[Portion], Made]
    ) -> AsyncGenerator[Made, None]:
        """Yield the results of `use` for the turns of a page, portion by portion.

        No other stream waits for more than one portion. Raises NotFound if the chat is deleted meanwhile.

        Args:
            use: Called with each portion, in the thread that reads it.
        """
        place: PortionStart | None = PortionStart(0)
        while place is not None:
            query = ReadPortion(turn_ids=page.turn_ids, bounds=bounds, start=place, use=use)
            made, place = await self._store.read(query)
            yield made

    async def delete(self, owner: str, chat_id: str) -> None:
        """Delete a chat and all its turns. Running and waiting turns are cancelled. Raises NotFound."""
        await self._store.read(GetChat(owner=owner, chat_id=chat_id))
        await self._stop_all(chat_id, "cancelled")
        await self._remote.stop_all(chat_id)
        await self._approvals.end_all(chat_id)
        deleted: list[str] = []
        with suppress(NotFound):  # it is deleted: by this write, whose answer was lost, or by another request
            deleted = await self._store.write(DeleteChat(owner=owner, chat_id=chat_id))
        await self._stop_all(chat_id, "deleted")  # turns that began meanwhile
        deleted += [turn.id for turn in self._registry.transient.of_chat(chat_id)]
        for turn_id in deleted:
            self._registry.forget(turn_id)
        self._known.pop(chat_id, None)
        await asyncio.wait((self._purging(chat_id),), timeout=PURGE_WAIT)  # a small chat is gone by then

    async def delete_turn(self, owner: str, turn_id: str, *, keeps_chat: bool = False) -> None:
        """Delete an answer and the user's turn before it. A running answer is cancelled first.

        Raises NotFound, and Conflict (`turn_continued`) if another turn follows.

        Args:
            keeps_chat: False to delete the chat too if it has no other turns than those that a client resent.
        """
        turn = await self._store.read(GetTurn(owner=owner, turn_id=turn_id))
        if (executor := self._registry.executor(turn_id)) is not None:
            executor.stop("cancelled")
            await executor.ended.wait()
        await self._remote.stop(turn)
        is_last = await self._store.write(DeleteTurn(turn_id=turn_id, owner=owner, chat_id=turn.chat_id))
        self._registry.forget(turn_id)
        if is_last and not keeps_chat:
            await self.delete(owner, turn.chat_id)

    async def delete_blocks(self, owner: str, turn_id: str, sequences: Sequence[int]) -> None:
        """Delete blocks of a turn that has ended. Raises NotFound, StoreError."""
        await self._store.write(DeleteBlocks(turn_id=turn_id, owner=owner, sequences=tuple(sequences)))
        self._registry.forget(turn_id)

    async def purge_all(self) -> None:
        """Delete the remaining rows of chats that were deleted before the store was opened."""
        try:
            left = await self._store.read(DeletedChats())
        except StoreError as error:
            logger.warning("rows of deleted chats stay until the next start: %s", error)
            return
        for chat_id in left:
            await asyncio.wait((self._purging(chat_id),))

    async def close(self) -> None:
        """Stop the deletion of rows. The remaining rows are deleted after the next start."""
        tasks = list(self._purges)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _purging(self, chat_id: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._purge(chat_id), name=f"purge {chat_id}")
        self._purges.add(task)
        task.add_done_callback(self._purges.discard)
        return task

    async def _purge(self, chat_id: str) -> None:
        """Delete the rows of a deleted chat in portions, with a pause for other writes between them."""
        try:
            while not await self._store.write(PurgeChat(chat_id=chat_id)):  # noqa: ASYNC110 - a pause
                await asyncio.sleep(PURGE_PAUSE)
        except StoreError as error:
            logger.warning("rows of deleted chat %s stay until the next start: %s", chat_id, error)

    async def _stop_all(self, chat_id: str, cause: StopCause) -> None:
        executors = self._registry.active_in(chat_id)
        for executor in executors:
            executor.stop(cause)
        await asyncio.gather(*(executor.ended.wait() for executor in executors))

    async def require(self, owner: str, chat_id: str) -> None:
        """Raise NotFound unless the owner has the chat.

        A cached chat is not looked up again: only `delete` removes chats, and the write that starts a turn
        checks the chat in any case.
        """
        if self._known.get(chat_id) != owner:
            await self._store.read(GetChat(owner=owner, chat_id=chat_id))
            self._remember(owner, chat_id)

    def _remember(self, owner: str, chat_id: str) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[chat_id] = owner
