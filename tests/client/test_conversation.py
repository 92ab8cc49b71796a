"""A user message is shown at once, and removed if it did not reach the server (J6)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.client.frames import CHAT, answer, started, told
from tests.client.scripted_server import Reply, ScriptedServer, json_reply
from turnstream.client import AsyncClient, AsyncClientConversation, Client, ClientConversation, Retry
from turnstream.errors import Conflict, ConnectionFailed, InvalidRequest

NOW_OR_NEVER = Retry(budget=0)
REFUSED = json_reply({"error": {"code": "invalid_request", "message": "no such model"}}, 400)

pytestmark = pytest.mark.requirement("J6", "F6")


class Screen:
    """Return the content that an application shows after each change."""

    def __init__(self) -> None:
        self.states: list[list[str]] = []

    def show(self, conversation: Any) -> None:
        shown = [
            f"{'(' if getattr(message, 'pending', False) else ''}{message.role}: {message.text}"
            for message in conversation.messages
        ]
        self.states.append(shown)


async def test_a_message_is_shown_at_once_and_answered() -> None:
    screen = Screen()
    replies = [json_reply(CHAT, 201), json_reply(started("t1")), Reply(body=told(answer("Hi!")))]
    async with (
        ScriptedServer([*replies, json_reply(started("t2"))]) as server,
        AsyncClient(server.url, retry=NOW_OR_NEVER) as client,
    ):
        conversation = AsyncClientConversation(client, on_change=screen.show)
        turn = await conversation.send("Hello", model="sim/demo")
        await turn.wait()
        await conversation.send([{"type": "text", "text": "Again"}])
        assert screen.states == [
            ["(user: Hello"],
            ["user: Hello", "assistant: "],
            ["user: Hello", "assistant: Hi!", "(user: Again"],
            ["user: Hello", "assistant: Hi!", "user: Again", "assistant: "],
        ]
        assert (conversation.chat_id, conversation.prev_turn_id) == ("c", "t2")
        first, second = server.asked[1].json, server.asked[3].json
        assert "prev_turn_id" not in first
        assert first["model"] == "sim/demo"
        assert second["prev_turn_id"] == "t1"


async def test_a_message_that_fails_is_taken_back_and_may_be_sent_again_under_its_key() -> None:
    screen = Screen()
    replies = [json_reply(CHAT, 201), Reply(end="lost"), REFUSED, json_reply(started())]
    async with (
        ScriptedServer(replies) as server,
        AsyncClient(server.url, retry=NOW_OR_NEVER) as client,
    ):
        conversation = AsyncClientConversation(client, on_change=screen.show)
        with pytest.raises(ConnectionFailed) as lost:
            await conversation.send("Hello")
        assert conversation.failure is lost.value
        assert (conversation.messages, conversation.sending) == ((), False)
        with pytest.raises(InvalidRequest):
            await conversation.send("Hello")
        await conversation.send("Something else")
        assert conversation.failure is None
        keys = [asked.headers["idempotency-key"] for asked in server.asked[1:]]
        assert keys[0] == keys[1] != keys[2]
        assert screen.states[:3] == [["(user: Hello"], [], ["(user: Hello"]]
        assert screen.states[-1] == ["user: Something else", "assistant: "]


async def test_a_cancelled_send_is_taken_back() -> None:
    async with (
        ScriptedServer([Reply(end="mute")]) as server,
        AsyncClient(server.url, retry=NOW_OR_NEVER) as client,
    ):
        conversation = AsyncClientConversation(client, "c")
        sending = asyncio.create_task(conversation.send("Hello"))
        await server.until(lambda: bool(server.asked))
        assert [message.text for message in conversation.messages] == ["Hello"]
        with pytest.raises(Conflict, match="being sent"):
            await conversation.send("Me too")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert conversation.messages == ()


async def test_an_observer_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Any) -> None:
        raise ValueError("the screen is gone")

    async with (
        ScriptedServer([json_reply(started())]) as server,
        AsyncClient(server.url, retry=NOW_OR_NEVER) as client,
    ):
        with caplog.at_level(logging.ERROR):
            await AsyncClientConversation(client, "c", on_change=fail).send("Hello")
    assert caplog.text.count("ValueError: the screen is gone") == 2


async def test_without_asyncio() -> None:
    def talk() -> None:
        with Client(server.url, retry=NOW_OR_NEVER) as client:
            screen = Screen()
            conversation = ClientConversation(client, on_change=screen.show)
            with pytest.raises(InvalidRequest):
                conversation.send("Hello", model="nobody/x")
            assert conversation.messages == ()
            conversation.send("Hello").wait()
            assert [message.text for message in conversation.messages] == ["Hello", "Hi!"]
            assert screen.states[:3] == [["(user: Hello"], [], ["(user: Hello"]]

    replies = [json_reply(CHAT, 201), REFUSED, json_reply(started()), Reply(body=told(answer("Hi!")))]
    async with ScriptedServer(replies) as server:
        await asyncio.to_thread(talk)
