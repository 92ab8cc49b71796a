"""The end of an answer, by the stop reason of each wire: success, a refusal, or a failure that may be
retried."""

from __future__ import annotations

import json
from typing import Any

import pytest

import turnstream as ts
from tests.corpus.recordings import single_bytes
from tests.llm.conftest import ONCE
from tests.providers.conftest import Exchange, RawServer, raw_server
from tests.wires.stream_samples import (
    ENDS,
    RESPONSE,
    SAID,
    SAMPLES,
    bedrock,
    chat,
    frame,
    frames,
    gemini,
    lines,
    responses,
)
from turnstream.core.answers import fold_answer
from turnstream.providers.decisions import kind_of
from turnstream.providers.failures import stream_error
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.endings import ending_of

__all__ = ["raw_server"]

pytestmark = pytest.mark.fault(12)


BEGUN: dict[str, bytes] = {
    "anthropic": frames(
        {"type": "message_start", "message": {"id": "m", "content": [], "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "Hm."},
        },
    ),
    "openai-chat": frame(chat({"role": "assistant", "reasoning_content": "Hm."})),
    "openai-responses": frames(
        responses("created", response={**RESPONSE, "status": "in_progress"}),
        responses("output_item.added", output_index=0, item={"id": "rs", "type": "reasoning", "summary": []}),
        responses("reasoning_text.delta", output_index=0, item_id="rs", content_index=0, delta="Hm."),
    ),
    "gemini": frame(gemini({"text": "Hm.", "thought": True})),
    "bedrock": bedrock(
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}},
    ),
    "ollama": lines({"model": "m", "message": {"role": "assistant", "thinking": "Hm."}, "done": False}),
}
"""The model has begun to think, without any text."""

FAILED = {
    "gemini": [
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE", "NO_IMAGE",
        "IMAGE_OTHER", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_SOMETHING_NEW",
    ],
    "bedrock": ["malformed_tool_use", "malformed_model_output", "malformed_something_new", "model_error"],
    "openai-chat": [
        "error", "network_error", "insufficient_system_resource", "repetition_truncation", "abort", "cancelled",
        "malformed_function_call", "function_call_filter: MALFORMED_FUNCTION_CALL", "timeout", "MALFORMED_FUNCTION_CALL",
        "internal_error", "unexpected_tool_call", "killed", "out_of_memory", "rate_limit", "server_shutdown", "preempted",
        "deadline_exceeded", "client disconnected",
    ],
    "ollama": ["load", "unload", "error", "aborted"],
    "openai-responses": ["server_error", "run_timeout", "malformed_output"],
    "anthropic": ["error", "tool_use_failed", "internal_server_error"],
}  # fmt: skip
REFUSED = {
    "gemini": {
        "SAFETY": "content_filtered",
        "RECITATION": "content_filtered",
        "LANGUAGE": "content_filtered",
        "BLOCKLIST": "content_filtered",
        "PROHIBITED_CONTENT": "content_filtered",
        "SPII": "content_filtered",
        "IMAGE_SAFETY": "content_filtered",
        "IMAGE_PROHIBITED_CONTENT": "content_filtered",
        "IMAGE_RECITATION": "content_filtered",
        "IMAGE_SAFETY_NEW": "content_filtered",
        "MODEL_ARMOR": "guardrail_intervened",
    },
    "bedrock": {
        "guardrail_intervened": "guardrail_intervened",
        "content_filtered": "content_filtered",
        "refusal": "refusal",
    },
    "openai-chat": {
        "content_filter": "content_filtered",
        "content_filter: RECITATION": "content_filtered",
        "content_filter: SAFETY": "content_filtered",
        "sensitive": "content_filtered",
        "prohibited_content": "content_filtered",
        "refusal": "refusal",
        "guardrail_intervened": "guardrail_intervened",
    },
    "ollama": {"content_filter": "content_filtered", "refusal": "refusal"},
    "openai-responses": {"content_filter": "content_filtered", "content_policy": "content_filtered"},
    "anthropic": {"refusal": "refusal", "content_filtered": "content_filtered"},
}
SUCCEEDED = {
    "gemini": {"STOP": "end_turn", "MAX_TOKENS": "max_tokens"},
    "bedrock": {
        "end_turn": "end_turn",
        "max_tokens": "max_tokens",
        "stop_sequence": "stop_sequence",
        "model_context_window_exceeded": "max_tokens",
    },
    "openai-chat": {
        "stop": "end_turn",
        "length": "max_tokens",
        "eos": "end_turn",
        "function_call": "tool_use",
        "model_context_window_exceeded": "max_tokens",
    },
    "ollama": {"stop": "end_turn", "length": "max_tokens"},
    "openai-responses": {"max_output_tokens": "max_tokens"},
    "anthropic": {
        "end_turn": "end_turn",
        "max_tokens": "max_tokens",
        "stop_sequence": "stop_sequence",
        "pause_turn": "pause_turn",
        "model_context_window_exceeded": "max_tokens",
    },
}


def decode(wire: str, said: bytes, raw: str) -> dict[str, Any]:
    body = said + ENDS[wire](raw)
    decoded = decode_pieces(WIRES[wire], [body])
    in_bytes = decode_pieces(WIRES[wire], single_bytes(body))
    assert {**in_bytes, "events": 0} == {**decoded, "events": 0}
    return decoded


@pytest.mark.parametrize(("wire", "raw"), [(wire, raw) for wire, words in FAILED.items() for raw in words])
@pytest.mark.parametrize("said", [SAID, BEGUN], ids=["said", "thought"])
def test_the_models_own_abort_is_a_failure(wire: str, raw: str, said: dict[str, bytes]) -> None:
    decoded = decode(wire, said[wire], raw)
    assert decoded["complete"] is False
    assert raw in decoded["error"]["message"]
    decoder = WIRES[wire].decoder()
    answer = fold_answer([*decoder.feed(said[wire] + ENDS[wire](raw)), *decoder.close()])
    assert answer.error is not None
    assert kind_of(stream_error(answer.error)) == "transient", "it may be tried again, and fall back"


@pytest.mark.parametrize(
    ("wire", "raw", "reason"), [(wire, *pair) for wire, words in REFUSED.items() for pair in words.items()]
)
@pytest.mark.parametrize("said", [SAID, BEGUN], ids=["said", "thought"])
def test_a_refusal_is_no_failure(wire: str, raw: str, reason: str, said: dict[str, bytes]) -> None:
    decoded = decode(wire, said[wire], raw)
    assert (decoded["complete"], decoded["stop_reason"], decoded["raw_stop_reason"]) == (True, reason, raw)


@pytest.mark.parametrize(
    ("wire", "raw", "reason"), [(wire, *pair) for wire, words in SUCCEEDED.items() for pair in words.items()]
)
def test_a_success(wire: str, raw: str, reason: str) -> None:
    decoded = decode(wire, SAID[wire], raw)
    assert (decoded["complete"], decoded["stop_reason"], decoded["raw_stop_reason"]) == (True, reason, raw)


@pytest.mark.parametrize("wire", ENDS)
def test_a_word_that_says_nothing_needs_an_answer(wire: str) -> None:
    raw = "NEVERMIND" if wire == "gemini" else "nevermind"
    decoded = decode(wire, SAID[wire], raw)
    assert (decoded["complete"], decoded["stop_reason"], decoded["raw_stop_reason"]) == (True, "unknown", raw)
    for nothing in (BEGUN[wire], b""):
        decoded = decode(wire, nothing, raw)
        assert decoded["complete"] is False
        assert raw in decoded["error"]["message"]


@pytest.mark.parametrize("raw", ["truncated", "max_new_tokens", "output_token_limit", "Length_Capped"])
def test_an_unknown_word_for_a_cut_answer_is_max_tokens(raw: str) -> None:
    assert ending_of(raw, {}) == "max_tokens"


@pytest.mark.parametrize(
    ("raw", "ending"),
    [
        ("stop:error", "failed"),
        ("stop: content_filter", "content_filtered"),
        ("STOP: backend overloaded", "overloaded"),
        ("stop:eos", "end_turn"),
        ("length: 4096", "max_tokens"),
        ("length: error", "max_tokens"),
    ],
)
def test_a_second_word_can_only_take_a_success_back(raw: str, ending: str) -> None:
    assert ending_of(raw, {"stop": "end_turn", "length": "max_tokens"}) == ending


def test_other_is_an_unknown_reason() -> None:
    assert decode("gemini", SAID["gemini"], "OTHER")["complete"]
    assert not decode("gemini", b"", "OTHER")["complete"]


@pytest.mark.parametrize("raw", ["FINISH_REASON_UNSPECIFIED", ""])
def test_no_reason_is_no_end(raw: str) -> None:
    decoded = decode_pieces(WIRES["gemini"], [SAID["gemini"] + ENDS["gemini"](raw)])
    assert decoded["error"]["code"] == "stream_incomplete"


def test_the_providers_words_for_a_failed_end_are_kept() -> None:
    decoded = decode("gemini", b"", "MALFORMED_FUNCTION_CALL")
    assert "because of this" in decoded["error"]["message"]
    assert decode("openai-chat", b"", "insufficient_system_resource")["error"]["code"] == "overloaded_error"


def test_usage_that_comes_after_a_failed_end_is_counted() -> None:
    decoded = decode("bedrock", SAID["bedrock"], "malformed_tool_use")
    assert decoded["usage"]["output_tokens"] == 6


def test_a_failed_end_without_usage_fails_where_the_body_ends() -> None:
    body = SAID["bedrock"] + bedrock({"messageStop": {"stopReason": "malformed_tool_use"}})
    assert decode_pieces(WIRES["bedrock"], [body])["error"]["code"] == "api_error"
    decoder = WIRES["bedrock"].decoder()
    decoder.feed(body)
    assert decoder.finish == "certain", "a connection that stays open is not waited for"
    assert fold_answer(decoder.end()).error is not None


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (
            "bedrock",
            {"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "malformed_tool_use"},
        ),
        ("gemini", gemini({"text": "a"}, finishReason="MALFORMED_RESPONSE")),
        ("openai-chat", {"choices": [{"message": {"content": "a"}, "finish_reason": "network_error"}]}),
        ("ollama", {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "load"}),
        ("anthropic", {"type": "message", "content": [], "stop_reason": "nevermind"}),
    ],
)
def test_whole_answers_end_alike(wire: str, body: dict[str, Any]) -> None:
    answer = fold_answer(WIRES[wire].decode_answer(json.dumps(body).encode()))
    assert answer.error is not None


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "raw"), [("gemini", "MALFORMED_FUNCTION_CALL"), ("openai-chat", "error"), ("anthropic", "error")]
)
async def test_a_tool_that_was_called_before_a_failed_end_does_not_run(
    raw_server: RawServer, wire: str, raw: str
) -> None:
    sample = SAMPLES[wire]
    runs: list[str] = []

    def f() -> str:
        runs.append("run")
        return "done"

    async def answer(exchange: Exchange) -> None:
        await exchange.send(HEAD % b"text/event-stream", sample.text, sample.call, ENDS[wire](raw))
        exchange.writer.close()

    raw_server.answer = answer
    model = ts.LLM("over/m", providers={"over": {"wire": wire, "base_url": raw_server.url}}, settings=ONCE)
    with pytest.raises(ts.ProviderError) as raised:
        await model.collect("go", tools=[f])
    assert runs == []
    assert raised.value.retryable


async def test_a_fallback_answers_after_a_failed_end(raw_server: RawServer) -> None:
    async def answer(exchange: Exchange) -> None:
        failed = len(raw_server.exchanges) == 1
        await exchange.send(
            HEAD % b"text/event-stream",
            frame(chat({"content": "" if failed else "Hi"}, "error" if failed else "stop")),
        )
        exchange.writer.close()

    raw_server.answer = answer
    provider = {"wire": "openai-chat", "base_url": raw_server.url}
    model = ts.LLM("over/m", providers={"over": provider}, fallbacks=["over/n"], settings=ONCE)
    assert (await model.collect("go")).text == "Hi"
    assert b'"n"' in raw_server.exchanges[1].body
