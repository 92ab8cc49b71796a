"""Bounds of the client: repeated frames are not progress, and redirects are not followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.client.frames import CHAT, START, answer, told
from tests.client.scripted_server import Asked, Reply, ScriptedServer, json_reply
from turnstream.client import AsyncClient, Client, Retry
from turnstream.client.following import MAX_REPEATS
from turnstream.core.turn_events import BlockDelta, BlockStart, TurnEvent
from turnstream.errors import ConnectionFailed, RequestError

pytestmark = pytest.mark.fault(43)

RETRY = Retry(first_delay=0.0001, max_delay=0.0002, idle=5, budget=1000)
TEXTS: list[TurnEvent] = [START, BlockStart(0, "text"), BlockDelta(0, "text", "text", "one")]
UNKNOWN = b'event: weather\ndata: {"type":"weather"}\nid: 7-3\n\n'
REPEATED = {
    "a snapshot": told(TEXTS),
    "the last event": told(TEXTS[2:], first=3),
    "an earlier event": told(TEXTS[1:2], first=2),
    "another generation's snapshot": told(TEXTS, generation=5),
    "an event that it does not know": UNKNOWN,
    "events without ids": b"\n\n".join(
        frame.rpartition(b"\n")[0] for frame in told(TEXTS).split(b"\n\n")[:-1]
    )
    + b"\n\n",
}


def endless(first: bytes, again: bytes, end: str) -> ScriptedServer:
    server = ScriptedServer([Reply(body=first, end="cut")])

    async def repeat(_asked: Asked) -> Reply:
        server.replies.append(repeat)
        return Reply(body=again, end=end)  # type: ignore[arg-type]

    server.replies.append(repeat)
    return server


@pytest.mark.parametrize("end", ["cut", "close"])
@pytest.mark.parametrize("again", REPEATED.values(), ids=REPEATED)
async def test_the_same_events_again_and_again_end_with_an_error(again: bytes, end: str) -> None:
    async with endless(told(TEXTS), again, end) as server, AsyncClient(server.url, retry=RETRY) as client:
        turn = client.watch("t")
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionFailed, match="the same events") as failed:
                await turn.wait()
        assert failed.value.code == "no_progress"
        assert MAX_REPEATS <= len(server.asked) <= MAX_REPEATS + 3
        assert turn.status == "streaming"
        assert turn.text == "one"


async def test_the_blocking_client_gives_up_too() -> None:
    async with endless(told(TEXTS), told(TEXTS), "cut") as server:

        def watch() -> None:
            with Client(server.url, retry=RETRY) as client:
                client.watch("t").wait()

        async with asyncio.timeout(20):
            with pytest.raises(ConnectionFailed, match="the same events"):
                await asyncio.to_thread(watch)


async def test_a_watcher_may_try_again_after_it_has_given_up() -> None:
    async with (
        endless(told(TEXTS), told(TEXTS), "cut") as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turn = client.watch("t")
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionFailed):
                await turn.wait()
            asked = len(server.asked)
            server.replies[:] = [Reply(body=told(answer("one", " two"), first=1))]
            await turn.wait()
        assert (turn.status, turn.text) == ("complete", "one two")
        assert len(server.asked) == asked + 1


async def test_one_new_event_a_connection_is_progress() -> None:
    """A network that cuts after each event: the client still follows the turn to its end."""
    events = answer(*(f"{number} " for number in range(3 * MAX_REPEATS)))

    def replies() -> Sequence[Reply]:
        return [
            Reply(body=told([event], first=place + 1), end="cut" if place + 1 < len(events) else "close")
            for place, event in enumerate(events)
        ]

    async with ScriptedServer(replies()) as server, AsyncClient(server.url, retry=RETRY) as client:
        turn = client.watch("t")
        async with asyncio.timeout(20):
            await turn.wait()
        assert turn.status == "complete"
        assert len(server.asked) == len(events)


REDIRECTS = [301, 302, 303, 307, 308]


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("same_origin", [False, True], ids=["elsewhere", "here"])
async def test_no_redirect_is_followed(status: int, same_origin: bool) -> None:
    async with ScriptedServer() as elsewhere, ScriptedServer() as server:
        target = (server if same_origin else elsewhere).url + "/api/taken?token=secret"
        redirect = Reply(status, headers={"Location": target})
        headers = {"X-Token": "secret", "Cookie": "session=secret"}
        async with AsyncClient(server.url, api_key="k3y", headers=headers, retry=RETRY) as client:
            server.replies += [redirect] * 4
            for ask in (
                client.models,
                lambda: client.chats.create("x"),
                lambda: client.send("hi", chat_id="c"),
                lambda: client.watch("t").wait(),
            ):
                async with asyncio.timeout(20):
                    with pytest.raises(RequestError) as refused:
                        await ask()
                assert refused.value.code == "redirected"
                assert "/api/taken" in refused.value.message
                assert "secret" not in refused.value.message
        assert len(server.asked) == 4
        assert elsewhere.asked == []


async def test_a_session_of_the_application_s_own_follows_none_either() -> None:
    import aiohttp

    async with ScriptedServer() as elsewhere, ScriptedServer() as server, aiohttp.ClientSession() as session:
        server.replies += [json_reply(CHAT, 201), Reply(307, headers={"Location": elsewhere.url})]
        client = AsyncClient(server.url, headers={"X-Token": "secret"}, session=session, retry=RETRY)
        async with asyncio.timeout(20):
            with pytest.raises(RequestError, match="redirects to"):
                await client.send("hi")
        await client.close()
        assert elsewhere.asked == []
