"""Requests: the bytes that are sent, the retries, and the values that answers become."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from tests.client.frames import CHAT, answer, started, told
from tests.client.scripted_server import Reply, ScriptedServer, json_reply
from tests.server.live import serving
from turnstream.client import AsyncClient, Client, Retry
from turnstream.client.retrying import Backoff, retry_after_seconds
from turnstream.core.blocks import Block
from turnstream.engine import Engine
from turnstream.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    RequestError,
    TooLarge,
    TurnstreamError,
    Unauthorized,
    Unavailable,
)

QUICK = Retry(first_delay=0.001, max_delay=0.01, budget=5, idle=5, request=5)
IMPATIENT = QUICK._replace(budget=0)

pytestmark = pytest.mark.requirement("F6")


def refused(status: int, code: str = "some_code", **headers: str) -> Reply:
    reply = json_reply({"error": {"code": code, "message": "why"}}, status)
    return Reply(reply.status, reply.body, {**reply.headers, **headers})


def local_client(port: int) -> AsyncClient:
    return AsyncClient(f"http://127.0.0.1:{port}", retry=QUICK)


async def test_everything_against_the_real_server(tmp_path: Any) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port, local_client(port) as client:
        chat = await client.chats.create("Weather", {"page": 1})
        assert (await client.chats.read(chat.id)).metadata == {"page": 1}
        assert (await client.chats.rename(chat.id, "Rain")).title == "Rain"
        other = await client.chats.create()
        page = await client.chats.list(limit=1)
        rest = await client.chats.list(before=page.next)
        assert [found.id for found in (*page.chats, *rest.chats)] == [other.id, chat.id]

        turn = await client.send("Hi", chat_id=chat.id, model="sim/thinking:pace=0", metadata={"k": "v"})
        kinds = [type(event).__name__ async for event in turn]
        assert kinds[0] == "TurnStart"
        assert kinds[-1] == "TurnComplete"
        stored = await client.read(turn.turn_id)
        assert [row.block for row in stored.blocks] == turn.blocks
        assert (stored.text, stored.usage, stored.metadata) == (turn.text, turn.usage, {"k": "v"})
        assert (turn.status, turn.stop_reason, turn.chat_id) == ("complete", "end_turn", chat.id)
        listed = (await client.chats.turns(chat.id)).turns
        assert [row.role for row in listed] == ["user", "assistant"]

        long = await client.send("Hi", model="sim/story:events=100000", prev_turn_id=None)
        async for _ in long:
            break
        assert (await long.interrupt()).status == (await client.interrupt(long.turn_id)).status
        await long.wait()
        assert (long.status, long.error) == ("cancelled", None)
        failed = await client.send("Hi", model="sim/story:pace=0,fault=error,after=5")
        assert (await failed.wait()).status == "error"
        assert failed.error is not None
        assert failed.error.code == "overloaded_error"

        blocks = [Block(0, "text", "Look:"), {"block_type": "reference", "content": {"url": "x"}}]
        assert (await (await client.send(blocks, model="sim/echo:pace=0")).wait()).text == "Look:"
        assert any(model.id.startswith("sim/") and model.ready for model in await client.models())
        await client.chats.delete(chat.id)
        for missing in (client.chats.read(chat.id), client.watch(turn.turn_id).wait(), client.read("")):
            with pytest.raises(NotFound):
                await missing
        with pytest.raises(InvalidRequest, match="nobody"):
            await client.send("Hi", model="nobody/x")


async def test_everything_without_asyncio(tmp_path: Any) -> None:
    def use(url: str) -> None:
        with Client(url, retry=QUICK) as client:
            chat = client.chats.create("Weather")
            assert client.chats.rename(chat.id, "Rain") == client.chats.read(chat.id)
            assert [found.id for found in client.chats.list(limit=5).chats] == [chat.id]
            with client.send("Hi", chat_id=chat.id, model="sim/thinking:pace=0") as turn:
                kinds = [type(event).__name__ for event in turn]
            assert (kinds[0], kinds[-1]) == ("TurnStart", "TurnComplete")
            assert [row.block for row in client.read(turn.turn_id).blocks] == turn.blocks
            assert (turn.status, turn.losses) == ("complete", 0)
            assert client.read(turn.turn_id).usage == turn.usage
            assert len(client.chats.turns(chat.id).turns) == 2
            long = client.send("Hi", chat_id=chat.id, model="sim/story:events=100000")
            for _ in long:
                break
            assert long.interrupt().status == client.interrupt(long.turn_id).status == "cancelled"
            assert client.watch(long.turn_id, after=long.last_id).wait().status == "cancelled"
            assert client.models()
            client.chats.delete(chat.id)
            with pytest.raises(NotFound):
                client.chats.read(chat.id)
        for work in (client.models, lambda: client.send("Hi")):
            with pytest.raises(TurnstreamError, match="closed"):
                work()
        client.close()

    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        await asyncio.to_thread(use, f"http://127.0.0.1:{port}")


@pytest.mark.requirement("P1")
async def test_a_post_whose_answer_was_lost_starts_no_second_turn(tmp_path: Any) -> None:
    """The server gets the POST twice, since its first answer is lost."""
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port, aiohttp.ClientSession() as session:
        answers: list[Any] = []

        async def pass_on(asked: Any) -> Any:
            async with session.request(
                asked.method, f"http://127.0.0.1:{port}{asked.path}", data=asked.body, headers=kept(asked)
            ) as response:
                answers.append(await response.json())
                return json_reply(answers[-1], response.status, end="lost" if len(answers) == 1 else "close")

        async with (
            ScriptedServer([pass_on, pass_on]) as server,
            local_client(port) as direct,
            AsyncClient(server.url, retry=QUICK) as client,
        ):
            chat = await direct.chats.create()
            turn = await client.send("Hi", chat_id=chat.id, model="sim/echo:pace=0")
            ids = [row.id for row in (await direct.chats.turns(chat.id)).turns]
            assert len(ids) == 2
            assert turn.turn_id == ids[1]
        first, second = server.asked
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert first.body == second.body


def kept(asked: Any) -> dict[str, str]:
    return {name: asked.headers[name] for name in ("idempotency-key", "content-type")}


async def test_what_is_sent() -> None:
    given = {"X-Team": "blue"}
    async with (
        ScriptedServer([json_reply(started())] * 2) as server,
        AsyncClient(f"{server.url}/company/llm/", api_key="k", headers=given, retry=QUICK) as client,
    ):
        await client.send("Hi", chat_id="c/..", model=None, params={"max_tokens": 3}, idempotency_key="mine")
        await client.send("Hi", chat_id="c")
        asked, other = server.asked
        assert (asked.method, asked.path) == ("POST", "/company/llm/chats/c%2F../turns")
        assert (asked.headers["authorization"], asked.headers["x-team"]) == ("Bearer k", "blue")
        text = {"block_type": "text", "text_content": "Hi"}
        assert asked.json == {"turn_blocks": [text], "params": {"max_tokens": 3}}
        assert asked.headers["idempotency-key"] == "mine"
        assert len(other.headers["idempotency-key"]) == 36


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, RequestError),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (501, TurnstreamError),
    ],
)
async def test_what_trying_again_cannot_mend_is_raised_at_once(
    status: int, kind: type[TurnstreamError]
) -> None:
    async with ScriptedServer([refused(status)]) as server, AsyncClient(server.url, retry=QUICK) as client:
        with pytest.raises(kind, match="why") as raised:
            await client.models()
        assert raised.value.code == "some_code"
        assert not raised.value.retryable


async def test_what_may_pass_is_tried_again() -> None:
    replies = [refused(503), refused(500), Reply(end="lost"), Reply(end="cut"), json_reply([])]
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=QUICK) as client:
        assert await client.models() == []
        assert len(server.asked) == 5


async def test_a_chat_is_made_again_only_where_none_was_made() -> None:
    replies = [refused(503), refused(429), json_reply(CHAT, 201), Reply(end="lost")]
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=QUICK) as client:
        assert (await client.chats.create()).id == "c"
        with pytest.raises(ConnectionFailed):
            await client.chats.create()
        assert len(server.asked) == 4


async def test_an_answer_that_is_no_turnstream_server_s_says_so() -> None:
    html = Reply(200, b"<html>", {"Content-Type": "text/html"})
    replies = [html, html, Reply(404, b"<html>", {"Content-Type": "text/html"})]
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=QUICK) as client:
        for asking in (client.models(), client.watch("t").wait(), client.read("t")):
            with pytest.raises(TurnstreamError, match="URL of a turnstream server"):
                await asking


async def test_retry_after_is_honoured() -> None:
    body = told(answer("x"))
    replies = [refused(429, **{"Retry-After": "1"}), json_reply([]), refused(503, **{"Retry-After": "1"})]
    async with (
        ScriptedServer([*replies, Reply(body=body)]) as server,
        AsyncClient(server.url, retry=QUICK) as client,
    ):
        for asking in (client.models(), client.watch("t").wait()):
            began = time.monotonic()
            await asking
            assert time.monotonic() - began >= 0.99
        assert len(server.asked) == 4


async def test_a_retry_after_beyond_the_budget_is_not_waited_for() -> None:
    async with (
        ScriptedServer([refused(503, **{"Retry-After": "3600"})]) as server,
        AsyncClient(server.url, retry=QUICK) as client,
    ):
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable, match="why"):
                await client.models()


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    now = datetime(2026, 11, 21, 7, 0, 0, tzinfo=UTC)
    assert retry_after_seconds(" 12 ") == 12
    assert retry_after_seconds("Sat, 21 Nov 2026 07:00:05 GMT", now) == 5
    assert retry_after_seconds("Sat, 21 Nov 2026 06:00:00 GMT", now) == 0
    for nonsense in (None, "", "soon", "-1", "1.5", "9" * 20, "Sat, 99 Nov 2026"):
        assert retry_after_seconds(nonsense, now) is None


async def test_pauses_double_with_jitter_up_to_their_cap_and_start_anew_after_news() -> None:
    backoff = Backoff(Retry(first_delay=1, max_delay=8, budget=1000))
    failure = ConnectionFailed("x")

    def pauses(count: int) -> list[float]:
        given: list[float] = []
        for _ in range(count):
            backoff.failed(failure, seconds=0)
            given.append(backoff._delay)
        return given

    for _ in range(20):
        for pause, longest in zip(pauses(6), (1, 2, 4, 8, 8, 8), strict=True):
            assert longest / 2 <= pause <= longest
        backoff.succeeded()
    assert len({*pauses(3), *pauses(3)}) == 6


async def test_nobody_there_is_told_when_the_budget_is_spent() -> None:
    async with ScriptedServer() as server:
        url = server.url
    for retry in (IMPATIENT, QUICK._replace(budget=0.2)):
        began = time.monotonic()
        async with AsyncClient(url, retry=retry) as client:
            for asking in (client.models(), client.watch("t").wait(), client.chats.create()):
                with pytest.raises(ConnectionFailed, match="cannot be reached"):
                    await asking
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("url", ["127.0.0.1:8089", "ftp://x", "", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the URL of a server"):
        AsyncClient(url)


@pytest.mark.parametrize("retry", [Retry(idle=0), Retry(max_delay=0.01), Retry(budget=-1), Retry(connect=0)])
def test_waits_that_cannot_be_are_refused(retry: Retry) -> None:
    with pytest.raises(ConfigurationError):
        AsyncClient("http://127.0.0.1", retry=retry)


async def test_a_session_of_the_application_stays_open() -> None:
    async with ScriptedServer([json_reply([])] * 2) as server, aiohttp.ClientSession() as session:
        async with AsyncClient(server.url, session=session, retry=QUICK) as client:
            await client.models()
        assert not session.closed
        with pytest.raises(TurnstreamError, match="closed"):
            await client.models()
        await AsyncClient(server.url, session=session).models()
