"""Watching a turn: its state at any time, leaving, coming back, and giving up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.client.frames import COMPLETE, START, TURN_ID, answer, told
from tests.client.scripted_server import Reply, ScriptedServer
from turnstream.client import AsyncClient, AsyncTurn, Client, Retry, WatchedTurn, watched_turn
from turnstream.core.blocks import Block
from turnstream.core.native_fold import frame_decoder
from turnstream.core.turn_events import BlockCatchup, BlockDelta, BlockStart, TurnEvent, UsageReport
from turnstream.core.usage import Usage
from turnstream.errors import ConnectionFailed, TooLarge, TurnstreamError

RETRY = Retry(first_delay=0.001, max_delay=0.01, budget=5, idle=5)
BEGINNING: list[TurnEvent] = [
    START,
    BlockStart(0, "text"),
    BlockDelta(0, "text", "text", "one "),
    BlockDelta(0, "text", "text", "two "),
]

pytestmark = pytest.mark.requirement("F6", "P1")


async def test_what_is_known_is_in_step_with_the_event_that_is_given() -> None:
    events = answer("one ", "two ")
    events.insert(4, UsageReport(Usage(5, 1), cost="0.000015"))
    async with (
        ScriptedServer([Reply(body=told(events))]) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turn = client.watch(TURN_ID)
        assert (turn.status, turn.text, turn.blocks, turn.usage, turn.ended) == (
            "pending",
            "",
            [],
            None,
            False,
        )
        steps = [(event, turn.last_id, turn.text, turn.status, turn.cost) async for event in turn]
    assert [step[0] for step in steps] == events
    assert [step[1] for step in steps] == [f"7-{number}" for number in range(1, len(events) + 1)]
    assert [step[2] for step in steps] == ["", "", "one ", "one two ", "one two ", "one two ", "one two "]
    assert [step[3] for step in steps] == ["streaming"] * 6 + ["complete"]
    assert [step[4] for step in steps] == [None] * 4 + ["0.000015"] * 3
    assert turn.usage == Usage(1, 2)
    assert (turn.chat_id, turn.stop_reason, turn.error, turn.losses) == ("c", "end_turn", None, 0)


async def test_leaving_the_loop_lets_go_of_the_connection_and_another_loop_goes_on() -> None:
    replies = [Reply(body=told(BEGINNING), end="silent"), Reply(body=told([COMPLETE], first=5))]
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=RETRY) as client:
        turn = client.watch(TURN_ID)
        async for event in turn:
            if isinstance(event, BlockDelta):
                break
        await server.until(lambda: server.gone == 1)
        assert (turn.text, turn.last_id, turn.ended) == ("one ", "7-3", False)
        assert [event async for event in turn] == [COMPLETE]
        assert server.asked[1].headers["last-event-id"] == "7-3"
        assert [event async for event in turn] == []
        assert (await turn.wait()).status == "complete"
        assert len(server.asked) == 2


async def test_leaving_the_context_or_closing_lets_go_of_the_connection() -> None:
    async with (
        ScriptedServer([Reply(body=told(BEGINNING), end="silent")] * 2) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        async with client.watch(TURN_ID) as turn:
            await turn.native()
        await server.until(lambda: server.gone == 1)
        await (closed := client.watch(TURN_ID)).native()
        closed.close()
        closed.close()
        await server.until(lambda: server.gone == 2)


async def until_cancelled(work: Coroutine[Any, Any, Any], due: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(0)  # it begins
    await due
    task.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("end", ["silent", "mute"])
async def test_cancelled_while_it_waits_for_bytes_or_for_an_answer(end: Any) -> None:
    replies = [Reply(body=told(BEGINNING), end=end), Reply(body=told(answer("one")))]
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=RETRY) as client:
        turn = client.watch(TURN_ID)

        if end == "silent":
            await turn.native()
            assert turn.text == "one two "
        await until_cancelled(turn.wait(), server.until(lambda: bool(server.asked)))
        await server.until(lambda: server.gone == 1)
        assert (await turn.wait()).text == "one"


async def test_cancelled_in_a_pause() -> None:
    retry = Retry(first_delay=60, max_delay=60)
    async with (
        ScriptedServer([Reply(503)]) as server,
        AsyncClient(server.url, retry=retry) as client,
    ):
        turn = client.watch(TURN_ID)
        await until_cancelled(turn.wait(), server.until(lambda: turn.losses == 1 or bool(server.asked)))


async def test_signs_of_life_keep_a_quiet_connection() -> None:
    """Only comments arrive, for three times the watchdog's patience."""
    quiet = b": keep-alive\n\n" * 12
    replies = [Reply(body=quiet, pieces=14, pace=0.05, end="cut"), Reply(body=told(answer("x")))]
    async with (
        ScriptedServer(replies) as server,
        AsyncClient(server.url, retry=RETRY._replace(idle=0.2)) as client,
    ):
        began = time.monotonic()
        turn = await client.watch(TURN_ID).wait()
        assert time.monotonic() - began >= 0.6
        assert (turn.text, turn.losses) == ("x", 1)


async def test_a_server_that_never_answers_is_asked_again() -> None:
    replies = [Reply(end="mute"), Reply(body=told(answer("x")))]
    async with (
        ScriptedServer(replies) as server,
        AsyncClient(server.url, retry=RETRY._replace(idle=0.1)) as client,
    ):
        assert (await client.watch(TURN_ID).wait()).losses == 1


async def test_news_renews_the_budget() -> None:
    """Fifty losses. Each is within a budget that two losses in a row would use up."""
    events = answer(*("x" for _ in range(48)))
    replies = [Reply(body=told([event], first=1 + place), end="cut") for place, event in enumerate(events)]
    retry = RETRY._replace(first_delay=0.01, max_delay=0.02, budget=0.012)
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=retry) as client:
        turn = await client.watch(TURN_ID).wait()
    assert turn.text == "x" * 48
    assert len(server.asked) == len(events)


async def test_a_server_that_only_shows_signs_of_life_and_cuts_is_given_up() -> None:
    retry = RETRY._replace(first_delay=0.01, max_delay=0.05, budget=0.3)
    async with (
        ScriptedServer([Reply(body=b": hello\n\n", end="cut")] * 100) as server,
        AsyncClient(server.url, retry=retry) as client,
    ):
        turn = client.watch(TURN_ID)
        with pytest.raises(ConnectionFailed, match="did not come back"):
            await turn.wait()
        assert not turn.ended
        assert 5 < len(server.asked) < 40


async def test_two_loops_at_once_are_refused() -> None:
    async with (
        ScriptedServer([Reply(body=told(answer("x")))]) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turn = client.watch(TURN_ID)
        waiting = asyncio.create_task(turn.wait())
        await asyncio.sleep(0)  # it begins
        for second in (turn.wait(), turn.native(), anext(aiter(turn))):
            with pytest.raises(RuntimeError, match="iterated already"):
                await second
        await waiting
        assert turn.status == "complete"


async def test_a_loop_that_another_took_over_from_says_so() -> None:
    async with (
        ScriptedServer([Reply(body=told(answer("x")))] * 2) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turn = client.watch(TURN_ID)
        loop = aiter(turn)
        await anext(loop)
        assert (await turn.wait()).status == "complete"
        with pytest.raises(RuntimeError, match="iterated already"):
            await anext(loop)


async def test_a_loop_that_was_left_does_not_stand_in_the_way_of_the_next() -> None:
    """The event loop ends an abandoned async generator late: after the next iteration has begun."""
    replies = [
        Reply(body=told(BEGINNING), end="silent"),
        Reply(body=told([*BEGINNING[1:], COMPLETE], first=2)),
    ]
    async with ScriptedServer(replies) as server, AsyncClient(server.url, retry=RETRY) as client:
        turn = client.watch(TURN_ID)
        async for _ in turn:
            break
        assert [event async for event in turn] == [*BEGINNING[1:], COMPLETE]
        assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "7-1"]


async def test_a_blocking_loop_may_end_in_the_client_s_own_thread() -> None:
    """The garbage collector ends an abandoned iterator, in any thread, also in the thread that would close
    the connection."""
    async with ScriptedServer([Reply(body=told(BEGINNING), end="silent")]) as server:

        def watch_and_leave() -> None:
            with Client(server.url, retry=RETRY) as client:
                turn = client.watch(TURN_ID)
                loop = iter(turn)
                next(loop)

                async def collect() -> None:
                    loop.close()

                client._thread.run(collect)

        async with asyncio.timeout(10):
            await asyncio.to_thread(watch_and_leave)
            await server.until(lambda: server.gone == 1)


def take(turn: WatchedTurn, body: bytes) -> None:
    for frame in frame_decoder().feed(body):
        turn.take(frame)


async def test_a_block_of_a_type_that_is_yet_to_be_invented_is_kept_and_not_given() -> None:
    hologram = told([BlockCatchup(0, "text", complete=True, accumulated_text="…")]).replace(
        b'"text",', b'"hologram",'
    )
    async with (
        ScriptedServer(
            [Reply(body=told([START]) + hologram.replace(b"7-1", b"7-2") + told([COMPLETE], first=3))]
        ) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turn = client.watch(TURN_ID)
        assert [event async for event in turn] == [START, COMPLETE]
    assert [block.block_type for block in turn.blocks] == ["hologram"]


def test_an_answer_has_a_bound_that_repetition_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_turn, "ANSWER_LIMIT", 4000)
    turn = WatchedTurn(TURN_ID)
    for number in range(100):
        events = [BlockCatchup(0, "text", complete=False, accumulated_text="x" * 1000)]
        take(turn, told(events, first=number + 1))
    assert turn.blocks == [Block(0, "text", "x" * 1000, partial=True)]
    growth = told([BlockDelta(0, "text", "text", "x" * 500)] * 100, first=200)
    with pytest.raises(TooLarge, match="the answer has"):
        take(turn, growth)
    assert len(turn.text) < 5000


def in_a_thread(work: Callable[[], None]) -> Coroutine[Any, Any, None]:
    return asyncio.wait_for(asyncio.to_thread(work), 20)


async def test_without_asyncio_leaving_the_loop_lets_go_and_closing_ends_the_thread() -> None:
    def watch() -> None:
        before = threading.active_count()
        with Client(server.url, retry=RETRY) as client:
            assert threading.active_count() == before
            turn = client.watch(TURN_ID)
            for event in turn:
                if isinstance(event, BlockDelta):
                    break
            assert threading.active_count() == before + 1
            assert (turn.text, turn.status) == ("one ", "streaming")
            with turn:
                assert list(turn) == [COMPLETE]
            assert list(turn) == []
        assert threading.active_count() == before

    replies = [Reply(body=told(BEGINNING), end="silent"), Reply(body=told([COMPLETE], first=5))]
    async with ScriptedServer(replies) as server:
        await in_a_thread(watch)
        await server.until(lambda: server.gone == 1)
        assert server.asked[1].headers["last-event-id"] == "7-3"


async def test_without_asyncio_closing_ends_a_call_of_another_thread() -> None:
    def watch(client: Client) -> None:
        with pytest.raises(TurnstreamError, match="closed"):
            client.watch(TURN_ID).wait()

    async with ScriptedServer([Reply(body=told(BEGINNING), end="silent")]) as server:
        client = Client(server.url, retry=RETRY)
        watching = asyncio.create_task(asyncio.to_thread(watch, client))
        await server.until(lambda: bool(server.asked))
        await in_a_thread(client.close)
        await asyncio.wait_for(watching, 5)
        await server.until(lambda: server.gone == 1)


async def test_many_turns_are_watched_at_once_by_one_client() -> None:
    async with (
        ScriptedServer([Reply(body=told(answer("one ", "two ")), pieces=50, pace=0.0005)] * 150) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turns: list[AsyncTurn] = await asyncio.gather(*(client.watch(TURN_ID).wait() for _ in range(150)))
    assert {turn.text for turn in turns} == {"one two "}
