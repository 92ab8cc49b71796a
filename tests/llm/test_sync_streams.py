"""The library without asyncio: the same streams, from one thread or several."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import turnstream as ts
from tests.llm.conftest import ONCE

pytestmark = pytest.mark.requirement("F1")
DEADLINE = 20.0


def llm(model: str = "sim/demo:pace=0") -> ts.LLM:
    return ts.LLM(model, settings=ONCE)


def test_everything_a_stream_gives_is_there() -> None:
    model = llm("sim/agent:pace=0")
    with model.stream_sync("go") as stream:
        pieces = list(stream.text)
        message = stream.final_message()
        events = list(stream)
        assert list(stream.blocks)[-1] == message.blocks
        assert [event for batch in stream.updates() for event in batch][-1] == events[-1]
        assert stream.final_text() == message.text == "".join(pieces)
        assert stream.message == message
        shown = "".join(
            stream.render(lambda e: e.value if isinstance(e, ts.BlockDelta) and e.field == "text" else None)
        )
        assert message.text in shown
    assert stream.ended
    assert stream.error is None
    assert stream.metrics.steps == 1
    assert isinstance(events[-1], ts.TurnComplete)
    model.close_sync()


def test_collect() -> None:
    with llm("sim/echo:pace=0") as model:
        assert model.collect_sync("say this").text == "say this"
    with pytest.raises(ts.TurnstreamError) as raised:
        model.collect_sync("again")
    assert raised.value.code == "llm_closed"


def test_threads_share_an_llm() -> None:
    model = llm("sim/story:events=300,pace=0.0001")
    together = threading.Barrier(6)

    def ask(_number: int) -> tuple[str, str]:
        with model.stream_sync("go") as stream:
            together.wait(DEADLINE)  # all six are open at once
            return "".join(stream.text), stream.final_message().text

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(6)))
    assert len({text for pair in found for text in pair}) == 1
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("turnstream llm") == 1
    model.close_sync()
    assert "turnstream llm" not in [thread.name for thread in threading.enumerate()]


def test_two_threads_read_one_stream() -> None:
    with llm("sim/story:events=500,pace=0.0001").stream_sync("go") as stream, ThreadPoolExecutor(2) as pool:
        text = pool.submit(lambda: "".join(stream.text))
        events = pool.submit(
            lambda: [e.value for e in stream if isinstance(e, ts.BlockDelta) and e.field == "text"]
        )
        assert text.result(DEADLINE) == "".join(events.result(DEADLINE)) == stream.final_text()


def test_leaving_the_block_stops_the_call() -> None:
    with llm("sim/story:events=100000,pace=0.001").stream_sync("go") as stream:
        next(iter(stream.text))
    assert isinstance(stream.error, ts.StreamClosed)
    with pytest.raises(ts.StreamClosed):
        list(stream.text)


def test_errors_are_the_same() -> None:
    with pytest.raises(ts.StreamIncomplete) as raised:
        llm("sim/demo:fault=cut,after=9,pace=0").collect_sync("hello")
    assert raised.value.partial is not None
    assert raised.value.partial.text


def test_an_llm_that_nobody_has_takes_its_thread_with_it() -> None:
    model = llm("sim/echo:pace=0")
    assert model.collect_sync("x").text == "x"
    thread = next(t for t in threading.enumerate() if t.name == "turnstream llm")
    del model
    gc.collect()
    thread.join(DEADLINE)
    assert not thread.is_alive()


async def test_inside_its_own_loop_it_says_so_and_does_not_hang() -> None:
    model = llm()
    failures: list[BaseException] = []

    def on_start(_stream_id: str) -> None:
        try:
            model.collect_sync("again")
        except RuntimeError as error:
            failures.append(error)

    await asyncio.to_thread(lambda: model.collect_sync("hello", callbacks=ts.Callbacks(on_start=on_start)))
    assert "await instead" in str(failures[0])
    model.close_sync()


def test_a_tool_may_ask_again_without_asyncio() -> None:
    asked: list[str] = []
    model = llm("sim/tools:pace=0")

    def look(what: str) -> str:
        asked.append(model.collect_sync(f"about {what}").text)
        return "done"

    message = model.collect_sync("go", tools=[look])
    assert message.text.endswith("done; done")
    assert len(asked) == 2
    model.close_sync()
