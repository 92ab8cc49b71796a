"""Cost of a turn, from the model's usage to the events of every client (requirements I1 to I3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.config import PriceSettings
from turnstream.engine import Engine

PRICES = {
    "sim/*": PriceSettings(input_per_million=Decimal(3), output_per_million=Decimal(15)),
}
SECONDS = 20.0


class EventWatcher(Watcher):
    """Keeps the data of usage events, and of the terminal event."""

    def __init__(self, client: Client, turn_id: str) -> None:
        super().__init__(client, turn_id)
        self.told: list[dict[str, Any]] = []

    def take(self, name: str, identity: str, data: dict[str, Any]) -> None:
        super().take(name, identity, data)
        if name == "usage" or (name.startswith("turn_") and name != "turn_start"):
            self.told.append(data)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", prices=PRICES)
    async with serving(engine.application()) as port:
        yield Client(port)


def price_of(usage: dict[str, int]) -> str:
    amount = Decimal(usage["input_tokens"]) * 3 + Decimal(usage["output_tokens"]) * 15
    return f"{amount / 1_000_000:.6f}"


async def ended(client: Client, turn_id: str) -> tuple[EventWatcher, dict[str, Any]]:
    watcher = EventWatcher(client, turn_id)
    await watcher.watch_to_the_end()
    return watcher, (await client.call("GET", f"/turns/{turn_id}")).json


@pytest.mark.requirement("I1", "I2", "A3")
async def test_cost_is_told_before_the_end_with_the_end_and_ever_after(client: Client) -> None:
    turn = await client.start("hello there", model="sim/story:events=20,pace=0.05")
    watcher, row = await ended(client, turn)
    usage, terminal = watcher.told[-2:]
    assert (usage["type"], terminal["type"]) == ("usage", "turn_complete")
    assert usage["cost"] == terminal["cost"] == row["cost"] == price_of(usage["usage"])
    assert "estimated" not in terminal
    assert "unpriced" not in terminal
    assert (row["cost_estimated"], row["unpriced"]) == (False, False)
    [step] = row["steps"]
    assert (step["step"], step["cost"], step["output_tokens"]) == (0, row["cost"], row["output_tokens"])


@pytest.mark.requirement("I3", "A3")
async def test_an_interrupt_before_the_usage_is_estimated_and_marked(client: Client) -> None:
    turn = await client.start("hello there", model="sim/story:events=5000,pace=0.001")
    watcher = EventWatcher(client, turn)
    async with asyncio.timeout(SECONDS):
        while not watcher.blocks or len(watcher.blocks[0]["text_content"] or "") < 100:
            await watcher.watch(events=20)
    await client.call("POST", f"/turns/{turn}/interrupt")
    await watcher.watch_to_the_end()
    row = (await client.call("GET", f"/turns/{turn}")).json
    usage, terminal = watcher.told[-2:]
    assert (usage["type"], terminal["type"]) == ("usage", "turn_cancelled")
    assert usage["estimated"] is terminal["estimated"] is row["cost_estimated"] is True
    size = sum(len(block["text_content"].encode()) for block in row["blocks"])
    assert terminal["usage"]["output_tokens"] == row["output_tokens"] == -(-size // 4) >= 25
    assert usage["cost"] == terminal["cost"] == row["cost"] == price_of(terminal["usage"])


@pytest.mark.requirement("I3")
async def test_a_failure_in_the_middle_keeps_what_it_cost(client: Client) -> None:
    turn = await client.start("hello", model="sim/story:events=400,pace=0,fault=cut,after=200")
    watcher, row = await ended(client, turn)
    terminal = watcher.told[-1]
    assert terminal["type"] == "turn_error"
    assert terminal["cost"] == row["cost"] == price_of(terminal["usage"])
    assert row["cost_estimated"] is True


@pytest.mark.requirement("I3")
async def test_a_call_that_was_refused_has_cost_nothing(client: Client) -> None:
    turn = await client.start("hello", model="sim/story:fault=error-before,status=529")
    watcher, row = await ended(client, turn)
    assert "cost" not in watcher.told[-1]
    assert (row["cost"], row["cost_estimated"], row["steps"], row["unpriced"]) == (None, False, [], False)


@pytest.mark.requirement("I2")
async def test_what_a_turn_cost_is_the_same_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/turns.sqlite"
    async with serving(Engine(url, prices=PRICES).application()) as port:
        client = Client(port)
        turn = await client.start("hello", model="sim/echo:pace=0")
        watcher, row = await ended(client, turn)
    async with serving(Engine(url).application()) as port:  # and without its prices: it is not counted again
        later, later_row = await ended(Client(port), turn)
    assert later.told[-1] == watcher.told[-1]
    assert later_row == row
    assert row["cost"] is not None
