"""The chat that a window shows: its branch, its live turns, and the requests of its user."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

from turnstream.client import AsyncClient, AsyncEvents, AsyncTurn, NativeEvent
from turnstream.client.answers import PathTurn
from turnstream.client.questions import Content, turn_blocks
from turnstream.errors import Conflict, ConnectionFailed, NotFound, TurnstreamError, Unavailable
from turnstream.terminal.asking import Asking
from turnstream.terminal.server_connection import ServerConnection
from turnstream.terminal.transcript_turn import TranscriptTurn, sent_question

logger = logging.getLogger(__name__)

TITLE_LENGTH = 60
"""Characters of the question that are the title of a new chat."""
_PROVISIONAL = {"provisional_title": True}
"""Metadata of a new chat: the server may make a better title."""
PAGE = 30
"""Turns that are read at a time."""
MOST_PENDING = 256 * 1024
"""Characters that wait to be drawn. Reading pauses then, and the server merges the deltas meanwhile."""
MOST_ENDED = 16
"""Ended turns that are kept for an answer of the server that is older than their end."""
READ_SECONDS = 0.02
"""Seconds of folding after which the window may draw and take keys."""
DRAW_SECONDS = 5.0
"""Seconds that reading waits for a draw."""
SUBSCRIBE_SECONDS = 1.0
"""Seconds that the first question of a chat waits for the chat's events to begin."""
RECOVERY_SECONDS = 1.0
"""Seconds between two attempts to find a lost server."""


class ShownChat:
    """One chat, or a new one that has no turns yet.

    Args:
        connection: The server.
        asking: Options of questions.
        on_change: Called after each change, in the event loop's thread. It must not raise.
    """

    def __init__(
        self, connection: ServerConnection, asking: Asking, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self.connection = connection
        self.asking = asking
        self.on_change = on_change
        self.chat_id: str | None = None
        self.title: str | None = None
        self.turns: list[TranscriptTurn] = []
        """The shown branch, oldest first."""
        self.previous: str | None = None
        """Cursor of the turns before the first of them. None: there are none."""
        self.order = 0
        """Raised each time that turns are added, removed or replaced."""
        self.connected = True
        self.problem: str | None = None
        """Why the chat cannot be followed any more, or None."""
        self.began_at = 0.0
        """Time of the monotonic clock at which the running turn was first seen."""
        self.sending = False
        self.drawn = asyncio.Event()
        self._live: dict[str, TranscriptTurn] = {}
        self._ended: dict[str, TranscriptTurn] = {}
        self._refreshing = asyncio.Lock()
        self._stale = False
        self._missed = False
        """True if turns may have ended before the subscription to their events."""
        self._followed = asyncio.Event()
        self._subscribed = asyncio.Event()

    @property
    def running(self) -> TranscriptTurn | None:
        """The turn that is being answered, or None."""
        last = self.turns[-1] if self.turns else None
        return last if last is not None and not last.ended else None

    @property
    def last_answer(self) -> TranscriptTurn | None:
        """The last answer of the branch, or None."""
        return next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)

    # -- what the user asks for ------------------------------------------------------------------------------

    async def open(self, chat_id: str | None) -> None:
        """Show a chat, or an empty one if `chat_id` is None. Raises TurnstreamError, keeps the old chat."""
        if chat_id is None:
            self._leave(None)
            return
        chat = await self.connection.ask(lambda client: client.chats.read(chat_id))
        self._leave(chat.id)
        self.title = chat.title
        await self.refresh()

    async def send(self, content: Content) -> None:
        """Ask. Raises Conflict while an answer streams, and the errors of the request."""
        with self._sending():
            last = next((turn for turn in reversed(self.turns) if turn.turn_id), None)
            shown = self._show_question(content)
            try:
                await self._send(content, shown, None if last is None else last.turn_id)
            except BaseException:
                if shown in self.turns and not shown.turn_id:
                    self.turns.remove(shown)
                    self._reordered()
                raise

    async def _send(self, content: Content, shown: TranscriptTurn, before: str | None) -> None:
        if self.chat_id is None:
            title = " ".join(shown.text()[:1_000].split())[:TITLE_LENGTH] or None
            chat = await self.connection.ask(lambda client: client.chats.create(title, _PROVISIONAL))
            self._follow_chat(chat.id)
            self.title = chat.title
            with suppress(TimeoutError):  # an answer that is faster than its events would lack its notices
                await asyncio.wait_for(self._subscribed.wait(), SUBSCRIBE_SECONDS)
        chat_id, options = self.chat_id, self.asking.options()
        turn = await self.connection.ask(
            lambda client: client.send(content, chat_id=chat_id, prev_turn_id=before, **options)
        )
        if chat_id == self.chat_id:  # the user may have opened another chat meanwhile
            self._add_answer(turn.turn_id)
        await self.refresh()

    async def edit(self, turn: TranscriptTurn, content: Content) -> None:
        """Ask another question in place of `turn`, in a new branch."""
        options = self.asking.options()
        await self._start_again(lambda client: client.edit(turn.turn_id, content, **options))

    async def regenerate(self, turn: TranscriptTurn) -> None:
        """Start another answer to the question of `turn`."""
        options = self.asking.options()
        await self._start_again(lambda client: client.regenerate(turn.turn_id, **options))

    async def _start_again(self, starting: Callable[[AsyncClient], Awaitable[AsyncTurn]]) -> None:
        with self._sending():
            await self.connection.ask(starting)
            await self.refresh()

    @contextmanager
    def _sending(self) -> Generator[None, None, None]:
        if self.sending or self.running is not None:
            raise Conflict("the answer is still streaming: Esc stops it", code="turn_active")
        self.sending = True
        try:
            yield
        except BaseException:
            self._stale = True  # changes of other windows wait until the request has ended
            raise
        finally:
            self.sending = False
            if self._stale:
                self._followed.set()  # follows anew, which reads the branch

    async def stop(self) -> None:
        """Stop the running turn, on the server."""
        if (turn := self.running) is not None and turn.turn_id:
            await self.connection.client.interrupt(turn.turn_id)

    async def approve(self, turn: TranscriptTurn, approval_id: str, *, approved: bool) -> None:
        """Answer an approval request of a turn."""
        reason = None if approved else "denied at the terminal"
        await self.connection.client.approve(turn.turn_id, approval_id, approved, reason)

    async def show_sibling(self, turn: TranscriptTurn, step: int) -> bool:
        """Show the branch of another sibling of `turn`. Return False if there is none."""
        if turn.turn_id not in turn.siblings or self.chat_id is None:
            return False
        place = turn.siblings.index(turn.turn_id) + step
        if not 0 <= place < len(turn.siblings):
            return False
        await self.connection.client.chats.show(self.chat_id, turn.siblings[place])
        await self.refresh()
        return True

    async def load_older(self) -> bool:
        """Read the turns before the first. Return False if there are none."""
        chat_id, previous = self.chat_id, self.previous
        if chat_id is None or previous is None:
            return False
        async with self._refreshing:
            path = await self.connection.client.chats.path(chat_id, limit=PAGE, before=previous)
            if (chat_id, previous) != (self.chat_id, self.previous):
                return False
            self.turns[:0] = [self._merged(turn, {}, missed=False) for turn in path.turns]
            self.previous = path.previous
        self._reordered()
        return True

    async def refresh(self) -> None:
        """Read the shown branch again. Live turns keep what they have."""
        async with self._refreshing:
            chat_id = self.chat_id
            if chat_id is None:
                return
            missed, self._stale, self._missed = self._missed, False, False
            try:
                path = await self.connection.client.chats.path(chat_id, limit=PAGE)
            except BaseException:
                self._stale, self._missed = True, missed or self._missed
                raise
            if chat_id != self.chat_id:
                return
            known = {turn.turn_id: turn for turn in self.turns} | self._ended | self._live
            self.turns = [self._merged(turn, known, missed=missed) for turn in path.turns]
            self.previous = path.previous
        self._reordered()

    def _merged(self, stored: PathTurn, known: dict[str, TranscriptTurn], *, missed: bool) -> TranscriptTurn:
        state = known.get(stored.id) or TranscriptTurn(stored.id, stored.role)
        # What the events say may be newer than the answer to this request, which was on its way.
        is_newer = stored.completed_at is not None and state.status != stored.status
        if stored.id not in known or state.role == "user" or (is_newer and (state.ended or missed)):
            state.take_stored(stored)
            self._live.pop(state.turn_id, None)
        if not state.ended and state.turn_id not in self._live:
            self._live[state.turn_id] = state
            self.began_at = time.monotonic()
        state.siblings, state.prev_turn_id = stored.siblings, stored.prev_turn_id
        return state

    def _show_question(self, content: Content) -> TranscriptTurn:
        shown = sent_question(turn_blocks(content))
        self.turns.append(shown)
        self._reordered()
        return shown

    def _add_answer(self, turn_id: str) -> None:
        if all(turn.turn_id != turn_id for turn in self.turns):
            self.turns.append(self._ended.get(turn_id) or self._live_turn(turn_id))
            self._reordered()

    def _live_turn(self, turn_id: str) -> TranscriptTurn:
        state = self._live.get(turn_id)
        if state is None:
            state = self._live[turn_id] = TranscriptTurn(turn_id, "assistant")
            self.began_at = time.monotonic()
        return state

    def _reordered(self) -> None:
        self.order += 1
        self.on_change()

    def _leave(self, chat_id: str | None) -> None:
        self.turns, self.previous, self.title, self.problem = [], None, None, None
        self._live.clear()
        self._ended.clear()
        self.began_at = 0.0
        self._follow_chat(chat_id)
        self._reordered()

    def _follow_chat(self, chat_id: str | None) -> None:
        self.chat_id = chat_id
        self._subscribed.clear()
        self._followed.set()

    # -- what the server tells -------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Follow the shown chat, until the caller cancels. Another chat may be opened meanwhile."""
        while True:
            self._followed.clear()
            if self.chat_id is None:
                await self._followed.wait()
                continue
            following = asyncio.ensure_future(self._follow_one(self.chat_id))
            switched = asyncio.ensure_future(self._followed.wait())
            try:
                await asyncio.wait({following, switched}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()
                    await switched
            finally:
                following.cancel()
                switched.cancel()
                await asyncio.wait({following, switched})

    async def _follow_one(self, chat_id: str) -> None:
        last_id: str | None = None
        while True:
            events = self.connection.client.events(chat_id, after=last_id)
            try:
                if self._stale:
                    await self.refresh()
                await self._read(events)
                self._end(self.problem or "this chat was deleted")
                return
            except (ConnectionFailed, Unavailable) as error:
                logger.info("the chat's events are lost: %s", error)
                self._set_connected(connected=False)
            except NotFound:
                self._end("this chat was deleted")
                return
            except TurnstreamError as error:
                self._end(error.message)
                return
            finally:
                last_id = events.last_id
                events.close()
            await self._recover()

    async def _recover(self) -> None:
        try:
            await self.connection.recover()
        except (TurnstreamError, OSError) as error:
            logger.warning("the server cannot be found again: %s", error)
        await asyncio.sleep(RECOVERY_SECONDS)

    async def _read(self, events: AsyncEvents) -> None:
        began = time.monotonic()
        async with aclosing(aiter(events)) as stream:
            async for event in stream:
                self._set_connected(connected=True)
                self._take(event)
                if self._stale and not self.sending:
                    await self.refresh()
                if time.monotonic() - began > READ_SECONDS:
                    self.on_change()
                    await self._let_draw()
                    began = time.monotonic()
                else:
                    self.on_change()

    async def _let_draw(self) -> None:
        """Let other tasks run. While much is not drawn yet, wait until the window has drawn."""
        await asyncio.sleep(0)
        if sum(turn.pending for turn in self.turns) > MOST_PENDING:
            self.drawn.clear()
            with suppress(TimeoutError):  # the window is hidden or suspended: its next draw takes all
                await asyncio.wait_for(self.drawn.wait(), DRAW_SECONDS)

    def _take(self, event: NativeEvent) -> None:
        name, data = event
        match name:
            case "events_start":
                self._stale = self._missed = True
                self._subscribed.set()
            case "turn_started":
                self._started(data)
            case "chat_changed" | "chat_created":
                self.title = data.get("title") or self.title
                active = data.get("active_turn_id")
                if active and not self.sending and all(turn.turn_id != active for turn in self.turns):
                    self._stale = True
            case "chat_deleted":
                self.problem = "this chat was deleted"
            case "user_redacted":
                self._stale = True
            case _ if "turn_id" in data:
                self._feed(data["turn_id"], name, data)
            case _:
                pass

    def _feed(self, turn_id: str, name: str, data: dict[str, Any]) -> None:
        turn = self._live.get(turn_id)
        if turn is None:
            if any(shown.turn_id == turn_id and shown.ended for shown in self.turns):
                return  # its stored state was read while these events were on their way
            turn = self._live_turn(turn_id)
        turn.feed(name, data)
        if turn.ended:
            del self._live[turn_id]
            self._ended[turn_id] = turn
            if len(self._ended) > MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def _started(self, data: dict[str, Any]) -> None:
        turn = self._live_turn(data["turn_id"])
        turn.model = data.get("model") or turn.model
        user_turn_id = data.get("user_turn_id")
        last = self.turns[-1] if self.turns else None
        if last is not None and not last.turn_id and user_turn_id:
            last.turn_id = user_turn_id
        if turn in self.turns:
            return
        if last is not None and last.turn_id == user_turn_id:
            self.turns.append(turn)
            self._reordered()
        self._stale = not self.sending

    def _end(self, problem: str) -> None:
        self.problem = problem
        self.on_change()

    def _set_connected(self, *, connected: bool) -> None:
        if connected != self.connected:
            self.connected = connected
            self.on_change()
