"""A turn of an engine in this process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from tempfile import TemporaryDirectory
from typing import Self

from turnstream.cli.conversation import ConversationPlace
from turnstream.cli.followed_turn import Question
from turnstream.config import Settings, ToolSettings
from turnstream.core.native_fold import NativeEvent, frame_decoder, native_event
from turnstream.engine import Engine
from turnstream.server.auth import LOCAL, local_use
from turnstream.server.live_turn import LiveTurn
from turnstream.store.queries import GetChat
from turnstream.tools.base import ToolFunction
from turnstream.tools.builtin import calculator, clock
from turnstream.tools.loading import load_functions
from turnstream.turnlog.subscription import Subscription


class LocalTurn:
    """A `FollowedTurn` of an engine in this process.

    `database_url`: URL of the database. None: a temporary database, which is deleted at the end.
    """

    def __init__(self, question: Question, settings: Settings, *, database_url: str | None = None) -> None:
        self._question = question
        self._settings = settings
        self._database_url = database_url
        self._held = AsyncExitStack()
        self._decoder = frame_decoder()
        self._turn: LiveTurn | None = None
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._held.aclose()
            raise
        return self

    async def _start(self) -> None:
        url = self._database_url
        if url is None:
            folder = self._held.enter_context(
                TemporaryDirectory(prefix="turnstream-", ignore_cleanup_errors=True)
            )
            url = f"sqlite:///{folder}/turns.sqlite"
        question = self._question
        engine = await self._held.enter_async_context(
            Engine.from_settings(
                self._settings,
                store_url=url,
                authenticate=local_use,
                tools=_tools(self._settings.tools, question),
                drain_seconds=None,
            )
        )
        place = question.place
        if place is None:
            chat = await engine.commands.chats.create(LOCAL.owner, title=question.title)
            place = ConversationPlace(chat.id)
        elif place.turn_id is None:
            chat = await engine.commands.store.read(GetChat(owner=LOCAL.owner, chat_id=place.chat_id))
            place = place._replace(turn_id=chat.active_turn_id)
        self._turn = await engine.send(
            question.blocks,
            chat_id=place.chat_id,
            prev_turn_id=place.turn_id,
            model=question.model,
            system=question.system,
            params=question.params,
            tools=question.tools,
        )
        self._subscription = await self._turn.subscribe(after=self._turn.beginning)

    async def __aexit__(self, *_: object) -> None:
        if self._subscription is not None:
            self._subscription.close()
        await self._held.aclose()

    async def next(self) -> Sequence[NativeEvent] | None:
        assert self._subscription is not None, "enter the context first"
        data = await self._subscription.next()
        return None if data is None else [native_event(frame) for frame in self._decoder.feed(data)]

    async def interrupt(self) -> None:
        if self._turn is not None:
            await self._turn.interrupt()

    async def approve(self, approval_id: str, *, approved: bool, reason: str | None) -> None:
        assert self._turn is not None, "enter the context first"
        await self._turn.approve(approval_id, approved=approved, reason=reason)


def _tools(settings: ToolSettings, question: Question) -> list[ToolFunction]:
    """Return the tools of the settings, the built-in tools that the question names, and its functions."""
    builtin = [
        function
        for function in (calculator, clock)
        if settings.builtin or function.__name__ in (question.tools or ())
    ]
    return [*load_functions(settings.functions), *builtin, *question.functions]
