"""Recorded answers, given again."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.corpus.recordings import Recording, recordings
from tests.simulator.asking import post
from turnstream.errors import ConfigurationError, InvalidModelRequest, InvalidRequest
from turnstream.simulator.actions import CutConnection, Refuse, Send
from turnstream.simulator.fault_names import FAULTS
from turnstream.simulator.options import SimulatorOptions, parse_replay_options
from turnstream.simulator.playback import PlayContext, play
from turnstream.simulator.replay import Replay, guess_wire, load_replay, split_events
from turnstream.simulator.server import Answers, SimulatorServer
from turnstream.wires import WIRES
from turnstream.wires.base import Wire
from turnstream.wires.recording import decode_pieces, decode_recording
from turnstream.wires.shared.event_stream import MessageDecoder

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)
LINE_ENDS = pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
EVERY_RECORDING = [param for name in WIRES for param in recordings(name)]


def recorded(ask: Callable, wire: Wire, model: str = "thinking:pace=0") -> bytes:
    return b"".join(action.data for action in play(ask(model, tools=True), wire))


@asynccontextmanager
async def replaying(replay: Replay) -> AsyncIterator[str]:
    async with SimulatorServer(answers=Answers(replay=replay)) as server:
        yield server.url


@EVERY_WIRE
@LINE_ENDS
def test_events_are_cut_where_they_end(ask, wire, line_end):
    if wire.name == "ollama" and line_end == b"\r":
        line_end = b"\r\n"
    if wire.name == "bedrock":  # has no lines
        line_end = b"\n"
    body = recorded(ask, wire).replace(b"\n", line_end)
    pieces = split_events(wire, body)
    assert b"".join(pieces) == body
    assert len(pieces) > 50
    assert split_events(wire, body + b"data: rest")[-1] == b"data: rest"
    assert split_events(wire, b"") == ()


@EVERY_WIRE
@pytest.mark.parametrize("chunk", [1, 7, 1000])
async def test_any_request_gets_the_recorded_bytes(ask, wire, chunk):
    body = recorded(ask, wire)
    async with replaying(Replay(wire, body, SimulatorOptions(chunk=chunk, pace=0))) as url:
        for model in ("gpt-9", "qwen3:8b", "replay:pace=0"):
            got = await post(url, wire, ask(model))
            assert (got.status, got.body, got.broken) == (200, body, False)


@EVERY_WIRE
def test_rate_and_chunk(ask, wire):
    replay = Replay(wire, recorded(ask, wire), SimulatorOptions(pace=1 / 50, chunk=64))
    sends = list(play(ask("any"), wire, PlayContext(replay=replay)))
    assert {len(send.data) for send in sends[:-1]} == {64}
    assert sum(send.delay for send in sends) == pytest.approx((len(replay) - 1) / 50)
    again = list(play(ask("any"), wire, PlayContext(replay=replay)))
    assert again == sends


@EVERY_WIRE
def test_the_header_wins_over_the_model_over_the_command_line(ask, wire):
    defaults = SimulatorOptions(pace=1, chunk=10)
    assert parse_replay_options("claude", "", defaults) == defaults
    assert parse_replay_options("replay:pace=2,chunk=3", "pace=3", defaults) == SimulatorOptions(
        pace=3, chunk=3
    )
    with pytest.raises(InvalidModelRequest, match="max-tokens"):
        parse_replay_options("claude", "fault=max-tokens", defaults)


@EVERY_WIRE
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault(ask, wire, fault):
    body = recorded(ask, wire)
    replay = Replay(wire, body)
    actions = list(play(ask("any"), wire, PlayContext(f"fault={fault},after=9", replay)))
    sent = b"".join(action.data for action in actions if isinstance(action, Send))
    told = decode_pieces(wire, (sent,))
    match fault:
        case "error-before" | "max-tokens" | "no-stream" | "redact" | "redact-input":
            assert isinstance(actions[0], Refuse)
        case "hang":
            assert not sent
        case "slow-first":
            assert (sent, actions[0].delay) == (body, 5.0)
        case "error":
            assert told["error"]["code"] == "overloaded_error"
            assert body.startswith(sent[: sum(map(len, split_events(wire, body)[:9]))])
        case "malformed" | "huge-event":
            assert told["error"]["code"] in {"malformed_event", "event_too_large"}
        case "no-end":
            assert body.startswith(sent)
            assert len(sent) > len(body) / 2
            assert told["error"]["code"] == "stream_incomplete"
        case _:
            assert sent == b"".join(split_events(wire, body)[:9])
            assert told["error"]["code"] == "stream_incomplete"


async def test_another_wire_is_refused(ask):
    async with replaying(Replay(WIRES["ollama"], recorded(ask, WIRES["ollama"]))) as url:
        got = await post(url, WIRES["anthropic"], ask("any"))
    assert got.status == 400
    assert b"ollama" in got.body


@EVERY_WIRE
async def test_without_a_stream(ask, wire):
    async with replaying(Replay(wire, recorded(ask, wire, "echo:pace=0"))) as url:
        got = await post(url, wire, ask("any"), stream=False)
        cut = await post(url, wire, ask("any"), "fault=cut", stream=False)
    assert b"What is the weather?" in got.body
    assert cut.broken


def lines_of(wire: Wire, body: bytes) -> list[bytes]:
    """The JSON of each event, as recorders write it down."""
    if wire.name == "bedrock":
        messages = MessageDecoder(limit=len(body))
        messages.add(body)
        return [
            b'{"%b":%b}' % (headers[":event-type"].encode(), payload)
            for headers, payload in iter(messages.take, None)
        ]
    lines = [
        line.removeprefix(b"data: ") for line in body.split(b"\n") if line and not line.startswith(b"event: ")
    ]
    return [line for line in lines if line != b"[DONE]"]


@EVERY_WIRE
@pytest.mark.parametrize("name", ["a.sse", "a.sse.gz", "a.jsonl", "A.JSONL.GZ"])
def test_files_and_the_guess_of_their_wire(ask, wire, name):
    body = recorded(ask, wire)
    data = body
    if "jsonl" in name.lower():
        data = b"\n".join(lines_of(wire, body))
    if name.lower().endswith(".gz"):
        data = gzip.compress(data)
    replay = load_replay(name, data, None, SimulatorOptions())
    assert replay.wire is wire
    told = decode_pieces(wire, (replay.body,))
    assert told["complete"]
    assert told["blocks"] == decode_pieces(wire, (body,))["blocks"]


@pytest.mark.parametrize("data", [b"", b"hello\n\n", b"<html></html>"])
def test_what_is_no_recording(data):
    with pytest.raises(ConfigurationError, match="--wire"):
        load_replay("a.sse", data, None, SimulatorOptions())


def test_a_broken_archive():
    with pytest.raises(InvalidRequest, match="gzip"):
        load_replay("a.gz", b"\x1f\x8b", WIRES["ollama"], SimulatorOptions())


def test_an_empty_recording():
    with pytest.raises(ConfigurationError, match="empty"):
        load_replay("a.sse", b"", WIRES["ollama"], SimulatorOptions())


def test_cutting_ends_the_connection(ask):
    wire = WIRES["anthropic"]
    *_, last = play(ask("any"), wire, PlayContext("fault=cut", Replay(wire, recorded(ask, wire))))
    assert isinstance(last, CutConnection)


@pytest.mark.parametrize("recording", EVERY_RECORDING)
def test_each_recording_is_replayed_as_it_is(ask, recording: Recording):
    wire = WIRES[recording.entry["wire"]]
    replay = load_replay(recording.name, recording.data, wire, SimulatorOptions(chunk=97))
    sent = b"".join(
        send.data for send in play(ask("any"), wire, PlayContext(replay=replay)) if isinstance(send, Send)
    )
    assert sent == recording.body(wire)
    told = decode_pieces(wire, (sent,))
    assert told == decode_recording(wire, recording.data, file_name=recording.name)
    if told["complete"]:
        assert guess_wire(recording.name, recording.data) is wire
