"""Objects that were used before a fork work in the child (gunicorn's preload, Celery, multiprocessing)."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

import turnstream as ts
from tests.llm.conftest import ONCE, llm_at
from tests.server.live import serving
from turnstream.client import Client
from turnstream.core.identifiers import _sequence, new_id
from turnstream.engine import Engine
from turnstream.errors import TurnstreamError
from turnstream.loop_thread import LoopThread
from turnstream.simulator.server import SimulatorServer
from turnstream.tools.threads import MAX_THREADS, _slots, in_thread

Made = TypeVar("Made")

DEADLINE = 30.0
FORK = multiprocessing.get_context("fork")

pytestmark = [
    pytest.mark.fault(14),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # Python 3.12 warns of any fork beside threads; that is what these tests are about.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]


def in_child(work: Callable[[], str]) -> str:
    """Return the result of `work` in a forked process. Fail if it raises there, or does not end."""
    there, here = FORK.Pipe()

    def run() -> None:
        try:
            there.send((True, work()))
        except BaseException:  # noqa: BLE001 - the test in the parent reports it
            there.send((False, traceback.format_exc()))

    child = FORK.Process(target=run)
    child.start()
    try:
        assert here.poll(DEADLINE), "the child does not answer"
        succeeded, answer = here.recv()
        assert succeeded, answer
        child.join(DEADLINE)
        assert child.exitcode == 0
        return answer
    finally:
        child.kill()
        child.join()


async def _nothing() -> None:
    pass


@contextmanager
def in_another_thread(context: AbstractAsyncContextManager[Made]) -> Iterator[Made]:
    """Enter `context` in the event loop of a thread, and leave it there."""
    thread = LoopThread("test")
    made = thread.run(context.__aenter__)
    try:
        yield made
    finally:
        thread.run(lambda: context.__aexit__(None, None, None))  # type: ignore[arg-type, return-value]
        thread.close(_nothing)


@pytest.mark.parametrize("wire", ["anthropic", "openai-chat"])
def test_a_library_object_works_on_both_sides_of_a_fork(wire: str) -> None:
    with in_another_thread(SimulatorServer()) as simulator, llm_at(simulator.url, wire, "demo:pace=0") as llm:
        before = llm.collect_sync("go").text
        assert before
        assert in_child(lambda: llm.collect_sync("go").text) == before
        assert in_child(lambda: asyncio.run(llm.collect("go")).text) == before
        assert llm.collect_sync("go").text == before


def test_a_fork_of_a_fork_works_too() -> None:
    llm = ts.LLM("sim/demo:pace=0", settings=ONCE)
    text = llm.collect_sync("go").text
    assert in_child(lambda: in_child(lambda: llm.collect_sync("go").text)) == text
    llm.close_sync()


def test_a_fork_beside_a_stream_that_runs() -> None:
    """The child cannot read the parent's stream, and raises. Leaving the block in the child stops nothing in
    the parent."""
    with (
        ts.LLM("sim/demo:pace=0.01", settings=ONCE) as llm,
        llm.stream_sync("go") as stream,
    ):
        first = next(stream.text)

        def read() -> str:
            with pytest.raises(TurnstreamError, match="begin another here") as refused:
                stream.final_text()
            stream.close()
            return refused.value.code

        assert in_child(read) == "forked"
        assert in_child(lambda: llm.collect_sync("go").text).startswith(first)
        assert stream.final_text().startswith(first)


def test_the_end_of_a_child_leaves_the_parents_connections_alone() -> None:
    """An LLM that a child drops closes none of the connections that it shares with its parent."""
    with in_another_thread(SimulatorServer()) as simulator:
        llm = llm_at(simulator.url, "openai-chat", "demo:pace=0.02")
        with llm.stream_sync("go") as stream:
            next(stream.text)

            def drop() -> str:
                nonlocal llm, stream
                del llm, stream
                gc.collect()
                return "dropped"

            assert in_child(drop) == "dropped"
            assert stream.final_message().stop_reason == "end_turn"
        llm.close_sync()


def test_a_client_works_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    with (
        in_another_thread(serving(engine.application())) as port,
        Client(f"http://127.0.0.1:{port}") as client,
    ):
        whole = client.send("go", model="sim/demo:pace=0").wait().text
        turn = client.send("go", model="sim/demo:pace=0.01")
        events = iter(turn)
        next(events)

        # The child goes on from the parent's cursor, over a connection of its own.
        assert in_child(lambda: turn.text if [*events] else "nothing came") == whole
        assert in_child(lambda: client.send("go", model="sim/demo:pace=0").wait().text) == whole
        for _ in events:
            pass
        assert turn.text == whole
        assert turn.losses == 0


def test_locks_that_another_thread_held_are_free_in_the_child() -> None:
    llm = ts.LLM("sim/demo:pace=0", settings=ONCE)
    text = llm.collect_sync("go").text
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with _sequence._lock, llm._thread._lock, llm._callings._lock:
            held.set()
            release.wait(DEADLINE)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(DEADLINE)
        assert in_child(lambda: new_id() and llm.collect_sync("go").text) == text
    finally:
        release.set()
        holder.join()
    llm.close_sync()


async def test_places_of_threads_that_a_child_does_not_have_are_free_there() -> None:
    release = threading.Event()
    running = [in_thread(lambda: release.wait(DEADLINE), "test") for _ in range(MAX_THREADS)]
    assert not _slots.acquire()
    try:
        assert in_child(lambda: str(_slots.acquire())) == "True"
    finally:
        release.set()
        await asyncio.gather(*running)


def test_ids_of_parent_and_child_differ() -> None:
    new_id()
    ids = {in_child(new_id) for _ in range(5)} | {new_id() for _ in range(5)}
    assert len(ids) == 10
