"""Signals of a host application's process: the engine drains, and the host's own handlers run too."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType

import pytest

from turnstream import Engine
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamEvent,
    TextDelta,
)

SECONDS = 10.0


@pytest.fixture
def signalled() -> Iterator[list[int]]:
    """The host's own handler of SIGTERM: a list of the signals that it has received."""
    received: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    yield received
    assert signal.getsignal(signal.SIGTERM) is handler, "the engine has not given the signal back"
    signal.signal(signal.SIGTERM, before)


async def endless() -> AsyncIterator[StreamEvent]:
    yield ContentBlockStart(0, "text")
    yield TextDelta(0, "begun")
    await asyncio.Event().wait()


async def ended(engine: Engine, *, signals: int) -> tuple[str, str | None]:
    turn = await engine.start(endless())
    for _ in range(signals):
        signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(SECONDS):
        state = await turn.wait()
    return state.turn.status, state.turn.error_code


async def test_a_signal_ends_the_turns_and_reaches_the_host(tmp_path: Path, signalled: list[int]) -> None:
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite") as engine:
        assert await ended(engine, signals=1) == ("error", "server_shutdown")
        assert signalled == [signal.SIGTERM]


async def test_a_second_signal_ends_the_grace(tmp_path: Path, signalled: list[int]) -> None:
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", drain_seconds=600) as engine:
        assert await ended(engine, signals=2) == ("error", "server_shutdown")
        assert signalled == [signal.SIGTERM] * 2


async def drained_to(engine: Engine, source: AsyncIterator[StreamEvent]) -> str:
    """Start a turn, and signal the process. Return the turn's id when the drain has begun."""
    turn = await engine.start(source)
    subscription = await turn.subscribe()
    signal.raise_signal(signal.SIGTERM)
    while b"draining" not in (await subscription.next() or b""):
        pass
    return turn.id


async def test_leaving_the_engine_leaves_the_turns_their_time(tmp_path: Path, signalled: list[int]) -> None:
    """A server whose last stream has closed ends the lifespan while its turns still have time."""
    leaves = asyncio.Event()

    async def ends_later() -> AsyncIterator[StreamEvent]:
        yield ContentBlockStart(0, "text")
        yield TextDelta(0, "begun")
        await leaves.wait()
        yield ContentBlockStop(0)
        yield MessageStop("end_turn")

    url = f"sqlite:///{tmp_path}/a.sqlite"
    async with asyncio.timeout(SECONDS):
        async with Engine(url, drain_seconds=600) as engine:
            turn_id = await drained_to(engine, ends_later())
            asyncio.get_running_loop().call_soon(leaves.set)
        async with Engine(url, drain_seconds=None) as engine:
            assert (await engine.commands.state("local", turn_id)).turn.status == "complete"


async def test_a_second_signal_ends_the_time_of_an_engine_that_is_left(
    tmp_path: Path, signalled: list[int]
) -> None:
    url = f"sqlite:///{tmp_path}/a.sqlite"
    async with asyncio.timeout(SECONDS):
        async with Engine(url, drain_seconds=600) as engine:
            turn_id = await drained_to(engine, endless())
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        async with Engine(url, drain_seconds=None) as engine:
            assert (await engine.commands.state("local", turn_id)).turn.error_code == "server_shutdown"


async def test_an_exception_of_the_host_ends_the_time(tmp_path: Path, signalled: list[int]) -> None:
    async def fail() -> None:
        async with Engine(f"sqlite:///{tmp_path}/a.sqlite", drain_seconds=600) as engine:
            await drained_to(engine, endless())
            raise LookupError

    async with asyncio.timeout(SECONDS):
        with pytest.raises(LookupError):
            await fail()


async def test_two_engines_share_a_signal(tmp_path: Path, signalled: list[int]) -> None:
    one, two = (Engine(f"sqlite:///{tmp_path}/{name}.sqlite") for name in "ab")
    async with one, two:
        turn = await one.start(endless())
        assert await ended(two, signals=1) == ("error", "server_shutdown")
        async with asyncio.timeout(SECONDS):
            assert (await turn.wait()).turn.error_code == "server_shutdown"
    assert signalled == [signal.SIGTERM]


async def test_without_drain_seconds_the_host_handles_signals(tmp_path: Path, signalled: list[int]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", drain_seconds=None):
        assert signal.getsignal(signal.SIGTERM) is handler


async def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        async with Engine(f"sqlite:///{tmp_path}/a.sqlite"):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


PROGRAM = """\
import asyncio, os, sys
from turnstream import Engine

async def main():
    async with Engine("sqlite:///a.sqlite") as engine:
        turn = await engine.send("hi", model="sim/story:events=6000,pace=0.1")
        if sys.argv[1] == "fork" and os.fork() == 0:
            os.kill(os.getpid(), 15)
            os._exit(1)
        print(turn.id, flush=True)
        if sys.argv[1] == "fork":
            print(os.waitstatus_to_exitcode(os.wait()[1]), engine.active_turns, flush=True)
        await turn.wait()

asyncio.run(main())
"""


async def test_a_program_without_handlers_stores_the_end_and_dies_by_the_signal(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, ""), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(6 * SECONDS):
        turn_id = (await process.stdout.readline()).decode().strip()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", drain_seconds=None) as engine:
        assert (await engine.commands.state("local", turn_id)).turn.error_code == "server_shutdown"


async def test_a_forked_process_dies_alone(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "fork"), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(6 * SECONDS):
        await process.stdout.readline()
        assert (await process.stdout.readline()).split() == [b"-15", b"1"]
        process.kill()
        await process.wait()
