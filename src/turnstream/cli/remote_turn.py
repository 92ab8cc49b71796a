"""A turn of a server, over HTTP. It survives lost connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from turnstream.cli.command import SERVER_KEY
from turnstream.cli.followed_turn import Question
from turnstream.client import AsyncClient, AsyncTurn, NativeEvent, Retry
from turnstream.errors import Unauthorized

AWAY_SECONDS = 60.0
"""Seconds that the server may be unavailable while the turn is watched."""
_LOST = NativeEvent("notice", {"code": "connection_lost", "message": "connection lost, resuming"})


class RemoteTurn:
    """A `FollowedTurn` of a server. `key`: sent as a bearer token. None: no token."""

    def __init__(self, question: Question, url: str, *, key: str | None = None) -> None:
        self._question = question
        self._client = AsyncClient(url, api_key=key, retry=Retry(budget=AWAY_SECONDS))
        self._turn: AsyncTurn | None = None
        self._losses = 0
        self._reported = False

    async def __aenter__(self) -> Self:
        question = self._question
        try:
            # If the server is unavailable at the start, its address is probably wrong: do not retry.
            chats = self._client.with_retry(Retry(budget=0)).chats
            place = question.place
            chat = await chats.create(question.title) if place is None else await chats.read(place.chat_id)
            self._turn = await self._client.send(
                question.blocks,
                chat_id=chat.id,
                prev_turn_id=None if place is None else place.turn_id or chat.active_turn_id,
                model=question.model,
                system=question.system,
                params=question.params,
                tools=question.tools,
            )
        except Unauthorized as refused:
            await self._client.close()
            hint = f"set {SERVER_KEY}, or name the variable with --api-key-env"
            raise Unauthorized(f"{refused.message} ({hint})") from refused
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._turn is not None:
            self._turn.close()
        await self._client.close()

    async def next(self) -> Sequence[NativeEvent] | None:
        assert self._turn is not None, "enter the context first"
        events = await self._turn.native()
        if events is None:
            return None
        if events:
            self._reported = False
        if self._turn.losses > self._losses and not self._turn.ended:
            self._losses = self._turn.losses
            if not self._reported:
                self._reported = True
                return [*events, _LOST]
        return events

    async def interrupt(self) -> None:
        assert self._turn is not None, "enter the context first"
        await self._turn.interrupt()

    async def approve(self, approval_id: str, *, approved: bool, reason: str | None) -> None:
        assert self._turn is not None, "enter the context first"
        await self._client.approve(self._turn.turn_id, approval_id, approved, reason)
