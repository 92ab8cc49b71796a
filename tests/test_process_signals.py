"""Signals in an event loop, also in one that cannot handle them itself, as on Windows."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from turnstream.cli.signals import ended_by_signal
from turnstream.process_signals import ENDING, ending_signals

SECONDS = 10.0


class LoopWithoutSignals(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *_: Any) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_arrives_in_a_loop_without_signal_handlers(number: signal.Signals) -> None:
    async def wait() -> None:
        waiting = asyncio.ensure_future(ended_by_signal())
        asyncio.get_running_loop().call_soon(signal.raise_signal, number)
        async with asyncio.timeout(SECONDS):
            await waiting

    with asyncio.Runner(loop_factory=LoopWithoutSignals) as runner:
        runner.run(wait())


def test_each_signal_is_told_and_afterwards_the_defaults_apply() -> None:
    told: list[signal.Signals] = []

    async def receive() -> None:
        with ending_signals(told.append):
            for number in ENDING:
                signal.raise_signal(number)
            await asyncio.sleep(0)

    asyncio.run(receive())
    assert told == list(ENDING)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
