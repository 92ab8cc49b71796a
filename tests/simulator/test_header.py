"""Options in the header `X-Simulate`: they win over the model's name."""

from __future__ import annotations

import json

import pytest

from tests.simulator.asking import post
from turnstream.errors import InvalidModelRequest, ModelNotFound
from turnstream.simulator.options import parse_model_name
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)


def test_the_header_wins():
    script, options = parse_model_name("demo:fault=cut,after=3,pace=1", "after=9, pace=0.01,")
    assert (script, options.fault, options.after, options.pace) == ("demo", "cut", 9, 0.01)


def test_the_header_chooses_the_script_whatever_the_model():
    assert parse_model_name("claude-sonnet-4-5", "script=echo,pace=0").script == "echo"
    assert parse_model_name("qwen3:8b", "script=echo").script == "echo"
    assert parse_model_name("demo:pace=2", "script=echo") == ("echo", parse_model_name("echo:pace=2").options)


@pytest.mark.parametrize("header", ["fault", "fault=unheard-of", "after=-1", "size=1", "x" * 3000])
def test_a_header_that_is_none(header):
    with pytest.raises(InvalidModelRequest):
        parse_model_name("demo", header)


def test_a_script_that_is_not_there():
    with pytest.raises(ModelNotFound, match="demo"):
        parse_model_name("demo", "script=nobody")


@EVERY_WIRE
async def test_a_fault_by_header(simulator_server, ask, wire):
    got = await post(simulator_server.url, wire, ask("demo"), "fault=error-before,status=429,retry-after=4")
    assert (got.status, got.headers["Retry-After"]) == (429, "4")
    got = await post(simulator_server.url, wire, ask("demo:pace=30"), "fault=cut,after=9,pace=0")
    assert got.broken
    assert decode_pieces(wire, (got.body,))["error"]["code"] == "stream_incomplete"


@EVERY_WIRE
async def test_a_header_that_is_none_is_a_client_error(simulator_server, ask, wire):
    got = await post(simulator_server.url, wire, ask("demo"), "pace=quick")
    assert got.status == 400
    assert "pace" in json.dumps(json.loads(got.body))
