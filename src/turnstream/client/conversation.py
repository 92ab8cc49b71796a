"""A conversation for a user interface. It shows a message at once, and removes it if sending fails."""

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
from turnstream.tracebacks import short_tracebacks

logger = logging.getLogger(__name__)

AnyTurn = TypeVar("AnyTurn", bound=WatchedTurn)


class UserMessage:
    """A message of the user. `pending`: True while it is being sent and may still be removed."""

    role: Literal["user"] = "user"

    def __init__(self, content: Content) -> None:
        self.blocks: list[dict[str, Any]] = turn_blocks(content)
        self.pending = True

    @property
    def text(self) -> str:
        """Text of all blocks, joined."""
        return "".join(block.get("text_content") or "" for block in self.blocks)


class AssistantMessage(Generic[AnyTurn]):
    """An answer. The application iterates `turn`, which always has the current text, blocks and status."""

    role: Literal["assistant"] = "assistant"

    def __init__(self, turn: AnyTurn) -> None:
        self.turn = turn

    @property
    def text(self) -> str:
        """Text of the answer so far."""
        return self.turn.text


class _UnsentQuestion(NamedTuple):
    """A message that could not be sent, and its idempotency key.

    The server may have received it. So the same message is sent with the same key.
    """

    blocks: list[dict[str, Any]]
    options: SendOptions
    key: str


class ConversationState(Generic[AnyTurn]):
    """The state of a conversation.

    Args:
        chat_id: The chat. None: the first message creates one.
        prev_turn_id: The turn that the first message follows. None: the message starts a new branch.
        on_change: Called with this state after each change. Its exceptions are logged and ignored.
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
        """Turn that the next message follows."""
        self.failure: BaseException | None = None
        """Exception because of which the last message was removed, or None."""
        self._messages: list[UserMessage | AssistantMessage[AnyTurn]] = []
        self._on_change = on_change
        self._sending = False
        self._unsent: _UnsentQuestion | None = None

    @property
    def messages(self) -> Sequence[UserMessage | AssistantMessage[AnyTurn]]:
        """Messages and answers, in order."""
        return tuple(self._messages)

    @property
    def sending(self) -> bool:
        """True while a message is being sent."""
        return self._sending

    def _begin(self, content: Content, options: SendOptions) -> tuple[UserMessage, SendOptions]:
        """Show a message before it is sent. Raises Conflict while another message is being sent."""
        if self._sending:
            raise Conflict("another message is being sent: wait until it is sent", code="turn_active")
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
        self._notify()
        return message, {**asked, "idempotency_key": key}

    def _note_sent(self, message: UserMessage, turn: AnyTurn) -> None:
        message.pending = self._sending = False
        self._unsent = None
        self.prev_turn_id = turn.turn_id
        self._messages.append(AssistantMessage(turn))
        self._notify()

    def _undo_send(self, message: UserMessage, failure: BaseException) -> None:
        self._sending = False
        self.failure = failure
        self._messages.remove(message)
        self._notify()

    def _notify(self) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(self)
        except Exception:
            logger.exception("a conversation's on_change failed")


@short_tracebacks
class AsyncClientConversation(ConversationState[AsyncTurn]):
    """A conversation that sends its messages through an AsyncClient."""

    def __init__(self, client: AsyncClient, chat_id: str | None = None, **given: Any) -> None:
        super().__init__(chat_id, **given)
        self._client = client

    async def send(self, content: Content, **options: Unpack[SendOptions]) -> AsyncTurn:
        """Send a message. It is in `messages` at once, and is removed if this raises or is cancelled."""
        message, asked = self._begin(content, options)
        try:
            if self.chat_id is None:
                self.chat_id = (await self._client.chats.create()).id
            turn = await self._client.send(content, chat_id=self.chat_id, **asked)
        except BaseException as failure:
            self._undo_send(message, failure)
            raise
        self._note_sent(message, turn)
        return turn


@short_tracebacks
class ClientConversation(ConversationState[Turn]):
    """A conversation that sends its messages through a Client."""

    def __init__(self, client: Client, chat_id: str | None = None, **given: Any) -> None:
        super().__init__(chat_id, **given)
        self._client = client

    def send(self, content: Content, **options: Unpack[SendOptions]) -> Turn:
        """See `AsyncClientConversation.send`."""
        message, asked = self._begin(content, options)
        try:
            if self.chat_id is None:
                self.chat_id = self._client.chats.create().id
            turn = self._client.send(content, chat_id=self.chat_id, **asked)
        except BaseException as failure:
            self._undo_send(message, failure)
            raise
        self._note_sent(message, turn)
        return turn
