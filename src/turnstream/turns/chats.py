"""What callers may ask of chats: to make, change and delete them, and to walk their branches.

Every command carries its owner, and another owner's id is not found.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from turnstream.core.admission import admitted_request
from turnstream.core.branches import Branches
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound, StoreError
from turnstream.store.base import SET_BY_STORE, BlockRecord, ChatRecord, Store, TurnRecord
from turnstream.store.operations import CreateChat, DeleteChat, PurgeChat, UpdateChat
from turnstream.store.portions import Bounds, OfTree, Portion, PortionStart, ReadPortion, unchanged
from turnstream.store.queries import DeletedChats, GetChat, GetTurn
from turnstream.turns.ending import StopCause
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)

MAX_KNOWN = 10_000
PATH_PORTION = Bounds(turns=8, size=128 * 1024)
"""Bounds of what is read of a branch, and written as JSON, at a time."""
LIST_PORTION = Bounds(turns=16, size=128 * 1024, blocks=False)
"""The same where turns are listed without their blocks."""
PURGE_WAIT = 1.0
"""Seconds that the answer to a deletion waits for the rows to be deleted. It is deleted for every reader before."""
PURGE_PAUSE = 0.01
"""Seconds between portions, for other writes."""


class BranchTurn(NamedTuple):
    """A turn of a branch, and the ids of it and its alternatives, oldest first."""

    turn: TurnRecord
    blocks: tuple[BlockRecord, ...]
    siblings: list[str]


class TurnPage(NamedTuple):
    """Turns of a chat, or a page of them: the ids, and the tree that they are in. `previous`: give it as `before` to read
    on towards the beginning; None there."""

    turn_ids: list[str]
    tree: Branches
    previous: str | None


class PageRequest(NamedTuple):
    """Which turns of a list are read: the last `limit` of those before the turn `before`. None, None: all."""

    before: str | None = None
    limit: int | None = None

    def page(self, turn_ids: list[str], tree: Branches) -> TurnPage:
        """Return the page of a list, oldest first. Raises NotFound for a `before` that is not in it."""
        if self.before is not None:
            if self.before not in turn_ids:
                raise NotFound("no such turn in this list: before")
            turn_ids = turn_ids[: turn_ids.index(self.before)]
        if self.limit is None or len(turn_ids) <= self.limit:
            return TurnPage(turn_ids, tree, None)
        return TurnPage(turn_ids[-self.limit :], tree, turn_ids[-self.limit])


ALL = PageRequest()
Made = TypeVar("Made")


class ChatCommands:
    """The commands of chats."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._known: dict[str, str] = {}
        """Owners of chats that are known to exist, those seen last."""
        self._purges: set[asyncio.Task[None]] = set()

    async def create(
        self, owner: str, *, title: str | None = None, metadata: dict[str, Any] | None = None
    ) -> ChatRecord:
        """Raises InvalidRequest for metadata that is not JSON, or nests too deeply."""
        chat = ChatRecord(new_id(), owner, title, metadata or {}, SET_BY_STORE, SET_BY_STORE)
        made = admitted_request(chat, "the chat")
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
        """`active_turn_id`: show the branch of this turn. Raises NotFound, InvalidRequest, and Conflict if it is no turn of the
        chat."""
        change = UpdateChat(
            owner=owner,
            chat_id=chat_id,
            title=title,
            metadata=metadata,
            active_turn_id=active_turn_id,
        )
        return await self._store.write(admitted_request(change, "the chat"))

    async def branch(
        self, owner: str, chat_id: str, *, through: str | None = None, paging: PageRequest = ALL
    ) -> TurnPage:
        """Return the branch of a chat that is shown, or the one through a given turn, without its turns. Raises
        NotFound."""
        chat = await self._store.read(GetChat(owner=owner, chat_id=chat_id))

        def page(tree: Branches) -> TurnPage:
            if through is not None and not tree.siblings(through):
                raise NotFound("no such turn in this chat")
            return paging.page(tree.path(through or chat.active_turn_id), tree)

        return await self._store.read(OfTree(chat_id=chat_id, use=page))

    async def all_turns(self, owner: str, chat_id: str, paging: PageRequest = ALL) -> TurnPage:
        """Return a chat's turns, all branches, in the order of their making. Raises NotFound."""
        await self._store.read(GetChat(owner=owner, chat_id=chat_id))
        return await self._store.read(
            OfTree(chat_id=chat_id, use=lambda tree: paging.page(tree.turn_ids, tree))
        )

    async def siblings(self, owner: str, turn_id: str, paging: PageRequest = ALL) -> TurnPage:
        """Return a turn and its alternatives, oldest first. Raises NotFound."""
        turn = await self._store.read(GetTurn(owner=owner, turn_id=turn_id))
        return await self._store.read(
            OfTree(chat_id=turn.chat_id, use=lambda tree: paging.page(tree.siblings(turn_id), tree))
        )

    async def portions(
        self, page: TurnPage, bounds: Bounds, use: Callable[[Portion], Made]
    ) -> AsyncGenerator[Made, None]:
        """Give what `use`, which runs in a reading thread, makes of the turns of a page, portion by portion. No other
        stream waits for more than one of them. Raises NotFound if the chat is deleted meanwhile."""
        place: PortionStart | None = PortionStart(0)
        while place is not None:
            query = ReadPortion(turn_ids=page.turn_ids, bounds=bounds, start=place, use=use)
            made, place = await self._store.read(query)
            yield made

    async def path(self, owner: str, chat_id: str, *, through: str | None = None) -> list[BranchTurn]:
        """Return the turns of the branch of a chat that is shown, or of the one through a given turn. Raises NotFound."""
        page = await self.branch(owner, chat_id, through=through)
        path: list[BranchTurn] = []
        async for portion in self.portions(page, PATH_PORTION, unchanged):
            for piece in portion.pieces:
                blocks = tuple(piece.blocks)
                if piece.turn is None:
                    path[-1] = path[-1]._replace(blocks=path[-1].blocks + blocks)
                else:
                    path.append(BranchTurn(piece.turn, blocks, page.tree.siblings(piece.turn.id)))
        return path

    async def delete(self, owner: str, chat_id: str) -> None:
        """Delete a chat with all its turns; those at work are stopped. Raises NotFound."""
        await self._store.read(GetChat(owner=owner, chat_id=chat_id))
        await self._stop_all(chat_id, "cancelled")
        deleted = await self._store.write(DeleteChat(owner=owner, chat_id=chat_id))
        await self._stop_all(chat_id, "deleted")  # those that began meanwhile
        for turn_id in deleted:
            self._registry.forget(turn_id)
        self._known.pop(chat_id, None)
        await asyncio.wait((self._purging(chat_id),), timeout=PURGE_WAIT)  # a small chat is gone by then

    async def purge_all(self) -> None:
        """Delete what is left of chats that were deleted before the store was opened."""
        try:
            left = await self._store.read(DeletedChats())
        except StoreError as error:
            logger.warning("rows of deleted chats stay until the next start: %s", error)
            return
        for chat_id in left:
            await asyncio.wait((self._purging(chat_id),))

    async def close(self) -> None:
        """Stop deleting. What is left goes after the next start."""
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
        """Delete the rows of a deleted chat in portions; other writes come between them."""
        try:
            while not await self._store.write(PurgeChat(chat_id=chat_id)):  # noqa: ASYNC110 - a pause, not a wait
                await asyncio.sleep(PURGE_PAUSE)
        except StoreError as error:
            logger.warning("rows of deleted chat %s stay until the next start: %s", chat_id, error)

    async def _stop_all(self, chat_id: str, cause: StopCause) -> None:
        executors = self._registry.active_in(chat_id)
        for executor in executors:
            executor.stop(cause)
        await asyncio.gather(*(executor.ended.wait() for executor in executors))

    async def require(self, owner: str, chat_id: str) -> None:
        """Raises NotFound unless the chat is the owner's. One seen before is not looked for again: chats go only by
        `delete`, and the write that starts a turn looks in any case."""
        if self._known.get(chat_id) != owner:
            await self._store.read(GetChat(owner=owner, chat_id=chat_id))
            self._remember(owner, chat_id)

    def _remember(self, owner: str, chat_id: str) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[chat_id] = owner
