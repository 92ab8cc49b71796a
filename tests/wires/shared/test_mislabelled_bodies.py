"""Bodies with a wrong content type, over a socket and in `turnstream decode`. Their first bytes decide."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.corpus.recordings import single_bytes
from tests.providers.conftest import Exchange, RawServer, raw_server
from tests.wires.stream_samples import SAMPLES
from turnstream.config import Timeouts
from turnstream.core.answers import Answer, fold_answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, StreamEvent, TextDelta
from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.plain_answer import PlainAnswerDecoder

__all__ = ["raw_server"]

pytestmark = pytest.mark.fault(23)

MARK = b"\xef\xbb\xbf"
SAID = "Hello, Wörld"
DEADLINE = 10.0


def plain(wire: str) -> bytes:
    answer = Answer("m", "x", (Block(0, "text", SAID),), MessageStop("end_turn", "end_turn"))
    return WIRES[wire].encode_answer(answer)


def streamed(wire: str) -> bytes:
    sample = SAMPLES[wire]
    return sample.text + sample.end + sample.done


async def collect(
    server: RawServer, wire: str, content_type: str, *pieces: bytes, stream: bool = True
) -> list[list[StreamEvent]]:
    """Return the batches of one call. Each piece is sent when the events of the one before have been
    received."""
    seen = asyncio.Semaphore(1)

    async def answer(exchange: Exchange) -> None:
        await exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\n\r\n" % content_type.encode()
        )
        for piece in pieces:
            await seen.acquire()
            await exchange.send(piece)
        exchange.writer.close()

    server.answer = answer
    provider = HttpProvider("test", WIRES[wire], Endpoint(server.url), Timeouts(connect=5, first_token=5))
    batches: list[list[StreamEvent]] = []
    try:
        request = ModelRequest("x", (), params={"max_tokens": 8}, stream=stream)
        async with asyncio.timeout(DEADLINE), provider.stream(request) as received:
            async for batch in received:
                batches.append(list(batch))
                seen.release()
    finally:
        await provider.close()
    return batches


def texts(batches: list[list[StreamEvent]]) -> list[str]:
    return [event.text for batch in batches for event in batch if isinstance(event, TextDelta)]


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("lead", [b"", MARK, b": hi\n\n", b"\n\n"], ids=["", "mark", "comment", "lines"])
async def test_a_stream_labelled_as_json_is_read_as_it_comes(
    raw_server: RawServer, wire: str, stream: bool, lead: bytes
) -> None:
    sample = SAMPLES[wire]
    pieces = (lead + sample.text, sample.end + sample.done)
    batches = await collect(raw_server, wire, "application/json", *pieces, stream=stream)
    assert texts(batches) == ["Half an ans"]
    assert fold_answer([event for batch in batches for event in batch]).complete


@pytest.mark.parametrize("wire", [*SAMPLES, "ollama"])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain"])
@pytest.mark.parametrize("lead", [b"", MARK, b"\r\n"], ids=["", "mark", "lines"])
async def test_an_object_labelled_as_a_stream(
    raw_server: RawServer, wire: str, content_type: str, lead: bytes
) -> None:
    for body in (plain(wire), plain(wire) + b"\n", json.dumps(json.loads(plain(wire)), indent=2).encode()):
        batches = await collect(raw_server, wire, content_type, lead + body)
        answer = fold_answer([event for batch in batches for event in batch])
        assert answer.complete
        assert [block.text_content for block in answer.blocks] == [SAID]


LINE = '{"model":"m","created_at":"t","message":{"role":"assistant","content":"%s"},"done":%s}\n'


async def test_lines_labelled_as_one_object_are_read_as_they_come(raw_server: RawServer) -> None:
    lines = [
        (LINE % ("Hel", "false")).encode(),
        (LINE % ("lo", "false")).encode(),
        (LINE % ("", "true")).encode(),
    ]
    batches = await collect(raw_server, "ollama", "application/json", lines[0] + lines[1], lines[2])
    assert texts(batches) == ["Hel", "lo"]
    assert fold_answer([event for batch in batches for event in batch]).complete


async def test_chunks_as_lines_labelled_as_a_stream(raw_server: RawServer) -> None:
    """A gateway that lost `data:` and the blank lines."""
    data = streamed("openai-chat").replace(b"data: ", b"").replace(b"\n\n", b"\n")
    for content_type in ("text/event-stream", "application/x-ndjson", "application/json"):
        batches = await collect(raw_server, "openai-chat", content_type, data)
        assert texts(batches) == ["Half an ans"]


@pytest.mark.parametrize("wire", [*SAMPLES, "ollama"])
async def test_half_a_mislabelled_body_is_no_answer(raw_server: RawServer, wire: str) -> None:
    whole = plain(wire)
    for content_type in ("text/event-stream", "application/json"):
        with pytest.raises(StreamIncomplete):
            await collect(raw_server, wire, content_type, whole[: len(whole) // 2])
    if wire in SAMPLES:
        with pytest.raises(StreamIncomplete):
            await collect(raw_server, wire, "application/json", SAMPLES[wire].text)


async def test_half_an_array_labelled_as_json_is_no_answer(raw_server: RawServer) -> None:
    chunk = SAMPLES["gemini"].text.removeprefix(b"data: ").strip()
    with pytest.raises(StreamIncomplete):
        await collect(raw_server, "gemini", "application/json", b"[%b,\n" % chunk)


@pytest.mark.parametrize("wire", SAMPLES)
async def test_an_error_page_labelled_as_json_keeps_its_words(raw_server: RawServer, wire: str) -> None:
    for body in (b"Rate limit exceeded", b"<html><title>429 Too Many Requests</title></html>"):
        batches = await collect(raw_server, wire, "application/json", body)
        error = fold_answer([event for batch in batches for event in batch]).error
        assert error is not None
        assert error.code == "rate_limit_error"


@pytest.mark.parametrize("wire", [*SAMPLES, "ollama", "bedrock"])
def test_decode_reads_whole_answers_too(wire: str) -> None:
    for body in (
        plain(wire),
        MARK + plain(wire),
        b"\n" + json.dumps(json.loads(plain(wire)), indent=1).encode(),
    ):
        decoded = decode_pieces(WIRES[wire], [body])
        assert decoded["complete"]
        assert [block["text_content"] for block in decoded["blocks"]] == [SAID]
        assert decode_pieces(WIRES[wire], single_bytes(body)) == decoded


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("names", [True, False])
def test_events_without_blank_lines_between_them(wire: str, names: bool) -> None:
    data = streamed(wire)
    lines = [line for line in data.split(b"\n") if line and (names or not line.startswith(b"event:"))]
    loose = b"\n".join(lines) + b"\n"
    right = decode_pieces(WIRES[wire], [data])
    assert right["complete"]
    assert decode_pieces(WIRES[wire], [loose]) == right
    assert without_count(decode_pieces(WIRES[wire], single_bytes(loose))) == without_count(right)
    decoder = WIRES[wire].decoder()
    shown = [event for line in lines for event in decoder.feed(line + b"\n")]
    assert any(isinstance(event, TextDelta) for event in shown), "text is shown before the body ends"


def without_count(decoded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in decoded.items() if key != "events"}


@pytest.mark.parametrize("lines", [1, 2])
def test_a_held_object_costs_linear_time(lines: int) -> None:
    """Pieces of a long object are scanned once."""
    calls = 0

    class Counting(PlainAnswerDecoder):
        def _is_stream(self, data: bytes) -> bool:
            nonlocal calls
            calls += 1
            return super()._is_stream(data)

    decoder = Counting(WIRES["anthropic"], 1 << 26)
    decoder.feed(b"{\n" if lines == 2 else b'{"a": "')
    for _ in range(1000):
        decoder.feed(b"x" * 100)
    assert calls <= (1 if lines == 2 else 1001)
    with pytest.raises(ProviderError):
        decoder.close()


def transcript(words: str | None, **audio: Any) -> bytes:
    spoken = {**audio, **({} if words is None else {"transcript": words})}
    choice = {"index": 0, "delta": {"content": None, "audio": spoken}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


async def test_a_transcript_is_shown_with_the_bytes_that_bring_it(raw_server: RawServer) -> None:
    end = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    pieces = [
        transcript("Hel", id="audio_1"),
        transcript("lo"),
        transcript(None, id="audio_1", data="AAAA") + end,
    ]
    batches = await collect(raw_server, "openai-chat", "text/event-stream", *pieces)
    assert [texts([batch]) for batch in batches[:2]] == [["Hel"], ["lo"]]
    answer = fold_answer([event for batch in batches for event in batch])
    assert answer.complete
    assert (answer.blocks[0].block_type, answer.blocks[0].text_content) == ("text", "Hello")
    assert '"data": "AAAA"' in json.dumps(answer.blocks[1].content), "the sound itself is kept"


def test_text_beside_a_transcript_is_not_doubled() -> None:
    choice = {"index": 0, "delta": {"content": "Hi", "audio": {"transcript": "Hi"}}, "finish_reason": "stop"}
    decoded = decode_pieces(
        WIRES["openai-chat"], [b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"]
    )
    assert [block["text_content"] for block in decoded["blocks"] if block["block_type"] == "text"] == ["Hi"]


def test_the_transcript_of_a_whole_answer_is_its_text() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "audio": {"id": "a", "data": "AAAA", "transcript": "Hello"},
    }
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    answer = fold_answer(WIRES["openai-chat"].decode_answer(json.dumps(body).encode()))
    assert answer.blocks[0].text_content == "Hello"
