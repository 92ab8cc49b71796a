"""The debug log has details of each component, and the turn of each line (requirement F5)."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.config import ProviderSettings
from turnstream.engine import Engine
from turnstream.simulator.server import SimulatorServer
from turnstream.telemetry import configure_logging


@pytest.fixture
def stream(restored_loggers: None) -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.requirement("F5")
async def test_each_component_tells_its_part_and_whose_turn_it_was(
    tmp_path: Path, stream: io.StringIO
) -> None:
    configure_logging(debug=["client", "accumulator", "events"], stream=stream, form="json")
    async with SimulatorServer() as simulator:
        providers = {"acme": ProviderSettings(wire="anthropic", base_url=simulator.url)}
        engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", providers=providers)
        async with serving(engine.application()) as port:
            client = Client(port)
            turns = [await client.start("hello", model="acme/echo:pace=0") for _ in range(2)]
            for turn in turns:
                await Watcher(client, turn).watch_to_the_end()
    told = lines(stream)
    for turn in turns:
        of_turn = [line for line in told if line.get("turn_id") == turn]
        assert {line["component"] for line in of_turn} >= {"providers.http_call", "turns.writing"}
        assert len({line["generation"] for line in of_turn}) == 1
        watched = [line["message"] for line in told if line["component"] == "server.streams"]
        assert sum(turn in message for message in watched) == 2
    assert not any("hello" in line["message"] for line in told)  # what people write is not for the log
