"""A conversation as an application shows it: what was said, at once, and taken back where it did not get through."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar, Unpack

from turnstream.client.asynchronous import AsyncClient
from turnstream.client.blocking import Client, Turn
from turnstream.client.questions import Content, SendOptions, new_key, turn_blocks
from turnstream.client.turns import AsyncTurn
from turnstream.client.watched_turn import WatchedTurn
from turnstream.errors import Conflict

logger = logging.getLogger(__name__)

AnyTurn = TypeVar("AnyTurn", bound=WatchedTurn)


class UserMessage:
    """What the user said. `pending`: it is on its way, and may be taken back."""

    role: Literal["user"] = "user"

    def __init__(self, content: Content) -> None:
        self.blocks: list[dict[str, Any]] = turn_blocks(content)
        self.pending = True

    @property
    def text(self) -> str:
        """What was said, its blocks joined."""
        return "".join(block.get("text_content") or "" for block in self.blocks)


class AssistantMessage(Generic[AnyTurn]):
    """The answer. `turn` is iterated by whoever shows it, and has its text, blocks and status at any time."""

    role: Literal["assistant"] = "assistant"

    def __init__(self, turn: AnyTurn) -> None:
        self.turn = turn

    @property
    def text(self) -> str:
        """The answer as far as it has come."""
        return self.turn.text


class _UnsentQuestion(NamedTuple):
    """What did not get through, and the key it had: the same again is the same request, should it have arrived."""

    blocks: list[dict[str, Any]]
    options: SendOptions
    key: str


class ConversationState(Generic[AnyTurn]):
    """`messages`: what was said, in order. `chat_id`: None until the first message got through.

    `on_change` is called after each change, with this state; one that fails is logged, and stops nothing.
    """

    def __init__(
        self,
        chat_id: str | None = None,
        *,
        prev_turn_id: str | None = None,
        on_change: Callable[[Self], None] | None = None,
    ) -> None:
        self.chat_id: str | None = chat_id
        self.prev_turn_id: str | None = prev_turn_id
        """The turn that the next message answers to."""
        self.failure: BaseException | None = None
        """Why the last message was taken back."""
        self._messages: list[UserMessage | AssistantMessage[AnyTurn]] = []
        self._on_change = on_change
        self._sending = False
        self._unsent: _UnsentQuestion | None = None

    @property
    def messages(self) -> Sequence[UserMessage | AssistantMessage[AnyTurn]]:
        """What was said and answered, in order."""
        return tuple(self._messages)

    @property
    def sending(self) -> bool:
        """A message is on its way."""
        return self._sending

    def _begin(self, content: Content, options: SendOptions) -> tuple[UserMessage, SendOptions]:
        """Show a message before it is sent. Raises Conflict while another one is on its way."""
        if self._sending:
            raise Conflict("a message is on its way already", code="turn_active")
        message = UserMessage(content)
        unsent, self._unsent = self._unsent, None
        asked: SendOptions = {"prev_turn_id": self.prev_turn_id, **options}
        key = options.get("idempotency_key")
        if key is None:
            again = unsent is not None and (unsent.blocks, unsent.options) == (message.blocks, asked)
            key = unsent.key if unsent is not None and again else new_key()
        self._unsent = _UnsentQuestion(message.blocks, asked, key)
        self._sending = True
        self.failure = None
        self._messages.append(message)
        self._tell()
        return message, {**asked, "idempotency_key": key}

    def _got_through(self, message: UserMessage, turn: AnyTurn) -> None:
        message.pending = self._sending = False
        self._unsent = None
        self.prev_turn_id = turn.turn_id
        self._messages.append(AssistantMessage(turn))
        self._tell()

    def _take_back(self, message: UserMessage, failure: BaseException) -> None:
        self._sending = False
        self.failure = failure
        self._messages.remove(message)
        self._tell()

    def _tell(self) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(self)
        except Exception:
            logger.exception("a conversation's on_change failed")


class AsyncConversation(ConversationState[AsyncTurn]):
    """A chat whose messages are sent through an AsyncClient."""

    def __init__(self, client: AsyncClient, chat_id: str | None = None, **given: Any) -> None:
        super().__init__(chat_id, **given)
        self._client = client

    async def send(self, content: Content, **options: Unpack[SendOptions]) -> AsyncTurn:
        """Say something: it is in `messages` at once, and gone again when this raises (also when it is cancelled)."""
        message, asked = self._begin(content, options)
        try:
            if self.chat_id is None:
                self.chat_id = (await self._client.chats.create()).id
            turn = await self._client.send(content, chat_id=self.chat_id, **asked)
        except BaseException as failure:
            self._take_back(message, failure)
            raise
        self._got_through(message, turn)
        return turn


class Conversation(ConversationState[Turn]):
    """A chat whose messages are sent through a Client."""

    def __init__(self, client: Client, chat_id: str | None = None, **given: Any) -> None:
        super().__init__(chat_id, **given)
        self._client = client

    def send(self, content: Content, **options: Unpack[SendOptions]) -> Turn:
        """See `AsyncConversation.send`."""
        message, asked = self._begin(content, options)
        try:
            if self.chat_id is None:
                self.chat_id = self._client.chats.create().id
            turn = self._client.send(content, chat_id=self.chat_id, **asked)
        except BaseException as failure:
            self._take_back(message, failure)
            raise
        self._got_through(message, turn)
        return turn
