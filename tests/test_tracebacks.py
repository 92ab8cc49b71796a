"""An error of the library or of a client shows the caller's line, and one of turnstream's."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import turnstream as ts
from turnstream.client import Retry
from turnstream.tracebacks import shorten


def llm(fault: str) -> ts.LLM:
    return ts.LLM(f"sim/echo:pace=0,fault={fault}", retry=ts.RetrySettings(attempts=1))


REFUSED = llm("error-before,status=503")
CUT = llm("cut,after=5")
WORDS = "one two three four five six"
NOWHERE = "http://127.0.0.1:9"
OWN = str(Path(ts.__file__).parent)


async def read_text() -> None:
    async with CUT.stream(WORDS) as stream:
        async for _ in stream.text:
            pass


async def read_events() -> None:
    async with CUT.stream(WORDS) as stream:
        async for _ in stream:
            pass


async def wait_for_the_message() -> None:
    async with CUT.stream(WORDS) as stream:
        await stream.final_text()


async def call_without_keys() -> None:
    async with ts.LLM("anthropic/x", fallbacks=["openai/x"]).stream("x"):
        pass


async def send() -> None:
    async with ts.AsyncClient(NOWHERE, retry=Retry(budget=0)) as client:
        await client.send("x")


async def watch() -> None:
    async with ts.AsyncClient(NOWHERE, retry=Retry(budget=0)) as client:
        async for _ in client.watch("t"):
            pass


def read_text_without_asyncio() -> None:
    with llm("cut,after=5") as model, model.stream_sync(WORDS) as stream:
        for _ in stream.text:
            pass


def read_events_without_asyncio() -> None:
    with llm("cut,after=5") as model, model.stream_sync(WORDS) as stream:
        for _ in stream:
            pass


def render() -> None:
    with llm("cut,after=5") as model, model.stream_sync(WORDS) as stream:
        for _ in stream.render(lambda event: type(event).__name__):
            pass


def wait_without_asyncio() -> None:
    with llm("cut,after=5") as model, model.stream_sync(WORDS) as stream:
        stream.final_message()


def collect_without_asyncio() -> None:
    with llm("error-before,status=503") as model:
        model.collect_sync("x")


def send_without_asyncio() -> None:
    with ts.Client(NOWHERE, retry=Retry(budget=0)) as client:
        client.send("x")


def create_without_asyncio() -> None:
    with ts.Client(NOWHERE, retry=Retry(budget=0)) as client:
        client.chats.create()


def watch_without_asyncio() -> None:
    with ts.Client(NOWHERE, retry=Retry(budget=0)) as client:
        for _ in client.watch("t"):
            pass


AWAITED: list[Callable[[], Awaitable[object]]] = [
    lambda: REFUSED.collect("x"),
    read_text,
    read_events,
    wait_for_the_message,
    call_without_keys,
    send,
    watch,
]
CALLED: list[Callable[[], object]] = [
    collect_without_asyncio,
    lambda: REFUSED.stream("x", messages=[3]),  # type: ignore[list-item]
    lambda: ts.LLM("nobody/knows"),
    lambda: ts.Client("nonsense"),
    read_text_without_asyncio,
    read_events_without_asyncio,
    render,
    wait_without_asyncio,
    send_without_asyncio,
    create_without_asyncio,
    watch_without_asyncio,
]


def check(error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    files = [line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")]
    assert __file__ in files, text
    assert sum(name.startswith(OWN) for name in files) == 1, text
    assert not any("site-packages" in name or "asyncio" in name or "contextlib" in name for name in files), (
        text
    )
    assert text.count("Traceback") == 1, text
    if isinstance(error, ts.ConnectionFailed):
        assert "ConnectionRefusedError" in text


@pytest.mark.parametrize("fail", AWAITED)
async def test_awaited(fail: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(ts.TurnstreamError) as raised:
        await fail()
    check(raised.value)


@pytest.mark.parametrize("fail", CALLED)
def test_called(fail: Callable[[], object]) -> None:
    with pytest.raises(ts.TurnstreamError) as raised:
        fail()
    check(raised.value)


def test_the_debug_log_keeps_all_lines() -> None:
    logger = logging.getLogger("turnstream")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with pytest.raises(ts.Overloaded) as raised:
            collect_without_asyncio()
    finally:
        logger.setLevel(before)
    assert "model_loop" in "".join(traceback.format_exception(raised.value))


def test_an_option_in_the_wrong_place_shows_one_line() -> None:
    with pytest.raises(TypeError) as raised:
        ts.LLM("sim/demo", temperature=1)  # pyright: ignore[reportArgumentType]
    names = [Path(entry.filename).name for entry in traceback.extract_tb(raised.value.__traceback__)]
    assert names == [Path(__file__).name, "language_model.py"]


async def test_a_line_of_the_caller_between_ours_stays() -> None:
    def refuse(_event: ts.TurnEvent) -> ts.TurnEvent | None:
        raise ts.InvalidRequest("the caller's own")

    async with ts.LLM("sim/echo:pace=0").stream("x") as stream:
        with pytest.raises(ts.InvalidRequest, match="own") as raised:
            async for _ in stream.events(refuse):
                pass
    assert [entry.name for entry in traceback.extract_tb(raised.value.__traceback__)][-1] == "refuse"


async def test_two_readers_of_one_failure_each_get_their_own_line() -> None:
    async def read(stream: ts.MessageStream[None]) -> AsyncIterator[str]:
        async for text in stream.text:
            yield text

    async with CUT.stream(WORDS) as stream:
        lengths: list[int] = []
        for _ in range(3):
            with pytest.raises(ts.StreamIncomplete) as raised:
                async for _text in read(stream):
                    pass
            lengths.append(len(traceback.extract_tb(raised.value.__traceback__)))
    assert lengths == [3, 3, 3]


def test_a_circle_of_causes_ends() -> None:
    first, second = ts.InvalidRequest("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    shorten(first)
    assert first.__traceback__ is None
