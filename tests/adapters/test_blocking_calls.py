"""A blocking call of the AWS SDK whose turn is cancelled: its answer is closed, whenever the call returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from turnstream import adapters
from turnstream.simulator.server import SimulatorServer

SECONDS = 10.0
MODEL = "story:events=100000,pace=0.01"


@pytest.fixture
async def call() -> AsyncIterator[Callable[[], Any]]:
    """A call of ConverseStream."""
    async with SimulatorServer() as server:
        session = botocore.session.get_session()
        client = session.create_client(
            "bedrock-runtime",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(read_timeout=5, connect_timeout=5, retries={"total_max_attempts": 1}),
        )
        messages = [{"role": "user", "content": [{"text": "tell"}]}]
        yield lambda: client.converse_stream(modelId=MODEL, messages=messages)
        client.close()


class GatedCall:
    """A call that waits at a gate. `closed` is set once its answer is closed.

    Args:
        moment: Place of the gate: before the call is made, or between the call and its return.
    """

    def __init__(self, call: Callable[[], Any], moment: str) -> None:
        self._call = call
        self._moment = moment
        self._loop = asyncio.get_running_loop()
        self._gate = threading.Event()
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()
        self.answer: Any = None

    def __call__(self) -> Any:
        if self._moment == "before":
            self._wait()
        self.answer = self._call()
        stream = self.answer["stream"]
        close = stream.close

        def noted() -> None:
            close()
            self._loop.call_soon_threadsafe(self.closed.set)

        stream.close = noted
        if self._moment == "after":
            self._wait()
        return self.answer

    def _wait(self) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._gate.wait(SECONDS)

    def open(self) -> None:
        """Let the call go on."""
        self._gate.set()


async def consume(source: AsyncIterator[Any]) -> None:
    async for _ in source:
        pass


@pytest.mark.requirement("F7")
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_the_answer_of_a_cancelled_turn_is_closed(call: Callable[[], Any], moment: str) -> None:
    gated = GatedCall(call, moment)
    reading = asyncio.create_task(consume(adapters.from_bedrock(gated)))
    async with asyncio.timeout(SECONDS):
        await gated.entered.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not gated.closed.is_set(), "the call has not returned, and nothing waits for it"
        gated.open()
        await gated.closed.wait()
    assert gated.answer["stream"]._raw_stream.closed


async def test_an_answer_that_returns_with_the_cancellation_is_closed(call: Callable[[], Any]) -> None:
    gated = GatedCall(call, "never")
    loop = asyncio.get_running_loop()

    def cancelling() -> Any:
        answer = gated()
        loop.call_soon_threadsafe(reading.cancel)
        return answer

    reading = asyncio.create_task(consume(adapters.from_bedrock(cancelling)))
    async with asyncio.timeout(SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await reading
        await gated.closed.wait()
    assert gated.answer["stream"]._raw_stream.closed
