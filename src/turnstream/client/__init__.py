"""The client of a turnstream server. It reconnects and resumes until the turn has ended.

    async with AsyncClient("http://127.0.0.1:8089") as client:
        turn = await client.send("Why is the sky blue?")
        async for event in turn:
            ...
        print(turn.status, turn.text, turn.usage)

`Client` is the same without asyncio. `ClientConversation` keeps the messages of a chat. The client uses only
HTTP.
"""

from __future__ import annotations

from turnstream.client.answers import (
    Attempt,
    Chat,
    ChatPage,
    ChatPath,
    Failure,
    Interrupted,
    Model,
    PathTurn,
    StoredBlock,
    StoredTurn,
    TurnList,
)
from turnstream.client.asynchronous import AsyncClient
from turnstream.client.blocking import Client, Events, Turn
from turnstream.client.conversation import (
    AssistantMessage,
    AsyncClientConversation,
    ClientConversation,
    ConversationState,
    UserMessage,
)
from turnstream.client.events import AsyncEvents
from turnstream.client.questions import QuestionOptions, SendOptions
from turnstream.client.retrying import Retry
from turnstream.client.turns import AsyncTurn
from turnstream.client.watched_turn import WatchedTurn
from turnstream.core.native_fold import NativeEvent

__all__ = [
    "AssistantMessage",
    "AsyncClient",
    "AsyncClientConversation",
    "AsyncEvents",
    "AsyncTurn",
    "Attempt",
    "Chat",
    "ChatPage",
    "ChatPath",
    "Client",
    "ClientConversation",
    "ConversationState",
    "Events",
    "Failure",
    "Interrupted",
    "Model",
    "NativeEvent",
    "PathTurn",
    "QuestionOptions",
    "Retry",
    "SendOptions",
    "StoredBlock",
    "StoredTurn",
    "Turn",
    "TurnList",
    "UserMessage",
    "WatchedTurn",
]
