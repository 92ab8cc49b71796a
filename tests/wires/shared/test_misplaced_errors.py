"""Errors outside of `data:` lines, or in a form of another wire. The answer is never complete, and the
error's text is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.corpus.recordings import pieces_at, random_cuts, single_bytes
from tests.wires.stream_samples import SAMPLES
from turnstream.core.answers import fold_answer
from turnstream.core.stream_events import StreamError
from turnstream.providers.decisions import kind_of
from turnstream.providers.failures import stream_error
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.unframed_text import UnframedText

pytestmark = pytest.mark.fault(11)

OVERLOADED = {"code": 503, "message": "slot is overloaded", "type": "overloaded_error"}
LIMITED = {"code": 429, "message": "slow down", "type": "rate_limit_error"}
TOO_LONG = {
    "code": 400,
    "message": "prompt is too long: the context length is exceeded",
    "type": "invalid_request_error",
}
UNKNOWN_KEY = {"code": 401, "message": "who is it?", "type": "authentication_error"}

UNFRAMED: dict[str, tuple[bytes, str, str]] = {
    "field": (b"error: %b\n\n" % json.dumps(OVERLOADED).encode(), "overloaded_error", "slot is overloaded"),
    "field around an error": (
        b"error: %b\n\n" % json.dumps({"error": LIMITED}).encode(),
        "rate_limit_error",
        "slow down",
    ),
    "field of words": (b"error: Rate limit exceeded\n\n", "rate_limit_error", "Rate limit exceeded"),
    "field of another name": (
        b"litellm.AuthenticationError: invalid api key\n\n",
        "authentication_error",
        "invalid api key",
    ),
    "field over lines": (
        b"error: %b\n\n" % json.dumps(TOO_LONG, indent=1).encode(),
        "context_length_exceeded",
        "prompt is too long",
    ),
    "bare": (b"%b\n\n" % json.dumps({"error": LIMITED}).encode(), "rate_limit_error", "slow down"),
    "bare, one line end": (
        b"%b\n" % json.dumps({"error": LIMITED}).encode(),
        "rate_limit_error",
        "slow down",
    ),
    "bare, indented": (
        b"%b\n" % json.dumps({"error": TOO_LONG}, indent=2).encode(),
        "context_length_exceeded",
        "prompt is too long",
    ),
    "bare, below a name": (
        b"event: error\n%b\n\n" % json.dumps({"error": UNKNOWN_KEY}).encode(),
        "authentication_error",
        "who is it?",
    ),
    "indented behind one data": (
        b"data: %b\n\n" % json.dumps({"error": OVERLOADED}, indent=2).encode(),
        "overloaded_error",
        "slot is overloaded",
    ),
    "text": (b"503 Service Unavailable\n\n", "overloaded_error", "503 Service Unavailable"),
    "text of a proxy": (
        b"upstream connect error or disconnect/reset before headers. reset reason: overflow\n",
        "api_error",
        "reset reason: overflow",
    ),
    "HTML": (
        b"<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n\r\n<body>nginx</body>\r\n</html>\r\n\r\n",
        "rate_limit_error",
        "429 Too Many Requests",
    ),
    "name alone": (b"event: error\n\n", "api_error", "the provider reported an error"),
    "name of an exception": (b'event: exception\ndata: {"message": "sorry"}\n\n', "api_error", "sorry"),
    "name of a class": (b'event: InternalError\ndata: {"message": "sorry"}\n\n', "api_error", "sorry"),
}

FRAMED: dict[str, tuple[bytes, str, str]] = {
    "detail": (b'{"detail": "Rate limit reached"}', "rate_limit_error", "Rate limit reached"),
    "string": (b'{"error": "model is overloaded"}', "overloaded_error", "model is overloaded"),
    "message and code": (b'{"message": "no more", "code": 429}', "rate_limit_error", "no more"),
    "message alone": (b'{"message": "Internal server error"}', "api_error", "Internal server error"),
    "code alone": (b'{"error": {"code": 429}}', "rate_limit_error", "429"),
    "code as text": (b'{"error": {"code": "503", "message": "later"}}', "overloaded_error", "later"),
    "list of errors": (b'{"errors": [{"code": 401, "message": "no"}]}', "authentication_error", "no"),
    "error in a list": (b'[{"error": {"code": 429, "message": "wait"}}]', "rate_limit_error", "wait"),
    "true": (b'{"error": true, "message": "rate limit exceeded"}', "rate_limit_error", "rate limit exceeded"),
    "problem": (b'{"status": 503, "title": "sorry"}', "overloaded_error", "sorry"),
    "no success": (b'{"success": false, "message": "sorry"}', "api_error", "sorry"),
    "failed status": (b'{"status": "error", "message": "sorry"}', "api_error", "sorry"),
    "capital": (b'{"Message": "Internal failure"}', "api_error", "Internal failure"),
    "JSON string": (b'"Rate limit exceeded"', "rate_limit_error", "Rate limit exceeded"),
    "words": (b"Rate limit exceeded", "rate_limit_error", "Rate limit exceeded"),
}

HARMLESS = {
    "comment": b": OPENROUTER PROCESSING\n\n",
    "empty comment": b":\n\n",
    "retry": b"retry: 3000\n\n",
    "id": b"id: 7\n\n",
    "unknown field": b"x-request-id: 0123\n\n",
    "unknown field of JSON": b'meta: {"region": "eu", "error": null}\n\n',
    "no error": b"error: null\n\n",
    "word": b"keepalive\n\n",
    "name alone": b"event: ping\n\n",
    "blank lines": b"\n\n\n\n",
    "empty data": b"data:\n\n",
    "comment about an error": b": no error so far\n\n",
}


def body(wire: str, *parts: str, error: bytes) -> bytes:
    sample = SAMPLES[wire]
    known = {"text": sample.text, "call": sample.call, "error": error, "end": sample.end, "done": sample.done}
    return b"".join(known[part] for part in parts)


def check(wire: str, data: bytes, code: str, words: str) -> dict[str, Any]:
    decoded = decode_pieces(WIRES[wire], [data])
    assert decoded["complete"] is False
    assert decoded["error"]["code"] == code
    assert words in decoded["error"]["message"]
    return decoded


PLACES = [
    ("error",),
    ("error", "done"),
    ("text", "error"),
    ("text", "error", "done"),
    ("call", "error", "done"),
]


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("place", PLACES, ids=" ".join)
@pytest.mark.parametrize("shape", UNFRAMED)
def test_an_error_outside_of_data(wire: str, place: tuple[str, ...], shape: str) -> None:
    error, code, words = UNFRAMED[shape]
    check(wire, body(wire, *place, error=error), code, words)


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("place", PLACES, ids=" ".join)
@pytest.mark.parametrize("shape", FRAMED)
@pytest.mark.parametrize("name", [b"", b"event: error\n"])
def test_an_error_in_an_unusual_shape(wire: str, place: tuple[str, ...], shape: str, name: bytes) -> None:
    error, code, words = FRAMED[shape]
    check(wire, body(wire, *place, error=name + b"data: " + error + b"\n\n"), code, words)


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("shape", UNFRAMED)
def test_the_error_stands_before_the_models_own_end(wire: str, shape: str) -> None:
    """The provider says that it failed, and then ends as usual."""
    error, code, words = UNFRAMED[shape]
    check(wire, body(wire, "text", "error", "end", "done", error=error), code, words)


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("shape", UNFRAMED)
def test_any_cut_around_an_error_decodes_alike(wire: str, shape: str) -> None:
    data = body(wire, "text", "error", "done", error=UNFRAMED[shape][0])
    whole = decode_pieces(WIRES[wire], [data])
    for pieces in [*random_cuts(data, times=60, seed=wire + shape), single_bytes(data)]:
        assert decode_pieces(WIRES[wire], pieces) == whole


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("shape", HARMLESS)
def test_signs_of_life_change_nothing(wire: str, shape: str) -> None:
    quiet = body(wire, "text", "call", "end", "done", error=b"")
    noisy = HARMLESS[shape].join([b"", *_frames_of(quiet)])
    assert decode_pieces(WIRES[wire], [noisy]) == decode_pieces(WIRES[wire], [quiet])


def _frames_of(data: bytes) -> list[bytes]:
    ends = [place + 2 for place in range(len(data)) if data.startswith(b"\n\n", place)]
    return pieces_at(data, ends[:-1])


@pytest.mark.parametrize("wire", SAMPLES)
def test_text_that_nothing_explains_is_told_with_the_missing_end(wire: str) -> None:
    decoded = check(wire, body(wire, "text", "error", error=b"see ya\n\n"), "stream_incomplete", "")
    assert decoded["blocks"][0]["text_content"] == "Half an ans"


@pytest.mark.parametrize(
    "event",
    [b'{"message": "sorry"}', b'{"msg": "sorry", "trace": 7}', b'{"exception": "E", "detail": "sorry"}'],
)
def test_a_done_after_unexplained_words_is_no_end(event: bytes) -> None:
    for place in (("text", "error", "done"), ("call", "error", "done"), ("call", "error")):
        data = body("openai-chat", *place, error=b"data: %b\n\n" % event)
        decoded = decode_pieces(WIRES["openai-chat"], [data])
        assert decoded["complete"] is False, decoded


def test_a_done_after_unexplained_text_is_no_end() -> None:
    data = body("openai-chat", "text", "error", "done", error=b"see ya later\n\n")
    check("openai-chat", data, "api_error", "see ya later")
    whole = body("openai-chat", "text", "error", "end", "done", error=b"see ya later\n\n")
    assert decode_pieces(WIRES["openai-chat"], [whole])["complete"]


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize(
    ("error", "kind"),
    [(TOO_LONG, "too_long"), (LIMITED, "transient"), (OVERLOADED, "transient"), (UNKNOWN_KEY, "unwilling")],
)
def test_a_plan_knows_what_such_an_error_calls_for(wire: str, error: dict[str, Any], kind: str) -> None:
    decoder = WIRES[wire].decoder()
    events = decoder.feed(body(wire, "text", "error", error=b"error: %b\n\n" % json.dumps(error).encode()))
    answer = fold_answer([*events, *decoder.close()])
    assert isinstance(answer.error, StreamError)
    assert kind_of(stream_error(answer.error)) == kind


def test_unframed_text_is_kept_up_to_a_bound() -> None:
    text = UnframedText()
    for _ in range(1000):
        assert text.take(b"tick tock " * 100) is None
    assert len(text.words) <= 2000


@pytest.mark.parametrize("wire", ["ollama"])
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b'{"error": "model runner has unexpectedly stopped"}\n', "api_error", "unexpectedly stopped"),
        (b'{"error": {"message": "slow down", "code": 429}}\n', "rate_limit_error", "slow down"),
        (b'{"detail": "Rate limit exceeded"}\n', "rate_limit_error", "Rate limit exceeded"),
        (b"error: rate limit exceeded\n", "rate_limit_error", "rate limit exceeded"),
        (b"503 Service Unavailable\n", "overloaded_error", "503 Service Unavailable"),
        (
            b'{\n  "error": {\n    "message": "slow down",\n    "code": 429\n  }\n}\n',
            "rate_limit_error",
            "slow down",
        ),
    ],
)
def test_errors_among_lines(wire: str, line: bytes, code: str, words: str) -> None:
    said = b'{"model":"m","created_at":"t","message":{"role":"assistant","content":"Half"},"done":false}\n'
    for data in (line, said + line):
        decoded = check(wire, data, code, words)
        assert decode_pieces(WIRES[wire], single_bytes(data)) == decoded
