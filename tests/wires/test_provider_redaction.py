"""Content that a provider withdraws, in the form of each API: redacted content, and plain ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.answers import AnswerFold
from turnstream.core.stream_events import RedactContent, StreamEvent
from turnstream.llm.assembly import MessageAssembler
from turnstream.wires import WIRES
from turnstream.wires.bedrock.guardrail import is_blocked
from turnstream.wires.shared.endings import BLOCKED, WITHDRAWN
from turnstream.wires.shared.event_stream import encode_event

SORRY = "Sorry, I cannot talk about that."
TOPIC = {"topicPolicy": {"topics": [{"name": "t", "type": "DENY", "action": "BLOCKED", "detected": True}]}}
MASKED = {"sensitiveInformationPolicy": {"piiEntities": [{"type": "NAME", "action": "ANONYMIZED"}]}}
FILTERED = {"protected_material_text": {"detected": True, "filtered": True}}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
OFFSETS = {"check_offset": 65, "start_offset": 65, "end_offset": 1056}


def bedrock(*texts: str, trace: object = None, thinking: str = "") -> bytes:
    """Return the stream of Converse in which a guardrail intervened."""
    reasoning = (
        [("contentBlockDelta", _delta(0, {"reasoningContent": {"text": thinking}}))] if thinking else []
    )
    events: list[tuple[str, Any]] = [
        ("messageStart", {"role": "assistant"}),
        *reasoning,
        *(("contentBlockDelta", _delta(len(reasoning), {"text": text})) for text in texts),
        ("contentBlockStop", {"contentBlockIndex": len(reasoning)}),
        ("messageStop", {"stopReason": "guardrail_intervened"}),
        ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "trace": trace}),
    ]
    return b"".join(encode_event(name, json.dumps(event).encode()) for name, event in events)


def _delta(index: int, delta: object) -> object:
    return {"contentBlockIndex": index, "delta": delta}


def blocked_output(*output: str) -> object:
    return {"guardrail": {"modelOutput": list(output), "outputAssessments": {"g": [TOPIC]}}}


def chat(*choices: object, **fields: object) -> bytes:
    """Return the stream of Azure OpenAI, whose first text is "Hey Jude"."""
    first = {"index": 0, "delta": {"role": "assistant", "content": "Hey Jude"}, "finish_reason": None}
    frames = [{"id": "c", "model": "gpt", "choices": [choice]} for choice in (first, *choices)]
    frames[0] |= fields
    return b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames) + b"data: [DONE]\n\n"


def report(results: object, *, reason: str | None = None, offsets: object = OFFSETS) -> object:
    """Return a report of Azure's asynchronous filter. It has no delta."""
    kept = {} if offsets is None else {"content_filter_offsets": offsets}
    return {"index": 0, "finish_reason": reason, "content_filter_results": results, **kept}


def gemini(*chunks: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)


def part(text: str) -> object:
    return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}]}


def ended(reason: str, ratings: Sequence[object] = ()) -> object:
    return {"candidates": [{"finishReason": reason, "index": 0, "safetyRatings": list(ratings)}]}


def responses(*filters: object, status: str = "incomplete") -> bytes:
    """Return the stream of Azure's Responses API."""
    item = {"id": "m", "type": "message", "role": "assistant", "content": []}
    delta = {"item_id": "m", "output_index": 0, "content_index": 0}
    last = {"id": "r", "status": status, "output": [], "content_filters": list(filters)}
    if status == "incomplete":
        last["incomplete_details"] = {"reason": "content_filter"}
    events: list[Any] = [
        {"type": "response.created", "response": {"id": "r", "model": "gpt"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_text.delta", **delta, "delta": "Hey "},
        {"type": "response.output_text.delta", **delta, "delta": "Jude"},
        {"type": f"response.{status}", "response": last},
    ]
    numbered = ({**event, "sequence_number": number} for number, event in enumerate(events))
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in numbered)


def anthropic() -> bytes:
    """Return a stream of Anthropic that ends with a refusal."""
    events: list[Any] = [
        {
            "type": "message_start",
            "message": {"id": "m", "model": "claude", "role": "assistant", "content": []},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Here is"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": {"category": "bio"}}},
        {"type": "message_stop"},
    ]
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


CASES: dict[str, tuple[str, bytes, tuple[str, ...], str | None]] = {
    # name: (wire, stream, texts that are left, text in place of the user's message)
    "bedrock blocks the end": (
        "bedrock",
        bedrock("To make ", "it you", SORRY, trace=blocked_output("To make it you need")),
        (SORRY,),
        None,
    ),
    "bedrock blocks in two pieces": (
        "bedrock",
        bedrock("To ", "Sorry, ", "no.", trace=blocked_output("To make", " it")),
        ("Sorry, no.",),
        None,
    ),
    "bedrock blocks after thinking": (
        "bedrock",
        bedrock(SORRY, thinking="A plan", trace=blocked_output("To make it")),
        (SORRY,),
        None,
    ),
    "bedrock blocks before it shows anything": (
        "bedrock",
        bedrock(SORRY, trace=blocked_output("To make it")),
        (SORRY,),
        None,
    ),
    "bedrock blocks asynchronously, without a message": (
        "bedrock",
        bedrock("To make ", "it", trace=blocked_output("To make it")),
        (WITHDRAWN,),
        None,
    ),
    "bedrock blocks, and its trace lacks the output": (
        "bedrock",
        bedrock("To make ", SORRY, trace={"guardrail": {"outputAssessments": {"g": [TOPIC]}}}),
        (WITHDRAWN,),
        None,
    ),
    "bedrock blocks the input": (
        "bedrock",
        bedrock(SORRY, trace={"guardrail": {"inputAssessment": {"g": TOPIC}}}),
        (SORRY,),
        SORRY,
    ),
    "bedrock masks": (
        "bedrock",
        bedrock("I am {NAME}.", trace={"guardrail": {"outputAssessments": {"g": [MASKED]}}}),
        ("I am {NAME}.",),
        None,
    ),
    "bedrock intervenes without a trace": ("bedrock", bedrock("To make"), ("To make",), None),
    "azure filters later": (
        "openai-chat",
        chat(report(SAFE), report(FILTERED, reason="content_filter")),
        (WITHDRAWN,),
        None,
    ),
    "azure filters after the end": (
        "openai-chat",
        chat({"index": 0, "delta": {}, "finish_reason": "stop"}, report(FILTERED, reason="content_filter")),
        (WITHDRAWN,),
        None,
    ),
    "azure filters another choice": (
        "openai-chat",
        chat({**report(FILTERED), "index": 1}, {"index": 0, "delta": {}, "finish_reason": "stop"}),  # type: ignore[dict-item]
        ("Hey Jude",),
        None,
    ),
    "azure filters before it sends": (
        "openai-chat",
        chat({**report(FILTERED, reason="content_filter", offsets=None), "delta": {}}),  # type: ignore[dict-item]
        ("Hey Jude",),
        None,
    ),
    "azure finds nothing": (
        "openai-chat",
        chat(report(SAFE), {"index": 0, "delta": {}, "finish_reason": "stop"}),
        ("Hey Jude",),
        None,
    ),
    "azure's responses are blocked": (
        "openai-responses",
        responses({"blocked": True, "source_type": "completion", "content_filter_offsets": OFFSETS}),
        (WITHDRAWN,),
        None,
    ),
    "azure's responses are not blocked": (
        "openai-responses",
        responses({"blocked": False, "source_type": "completion"}, status="completed"),
        ("Hey Jude",),
        None,
    ),
    "gemini blocks the content": (
        "gemini",
        gemini(part("Hey "), part("Jude"), ended("SAFETY", [{"category": "X", "blocked": True}])),
        (WITHDRAWN,),
        None,
    ),
    "gemini stops": ("gemini", gemini(part("Hey "), part("Jude"), ended("RECITATION")), ("Hey Jude",), None),
    "gemini blocks before it shows anything": (
        "gemini",
        gemini(ended("SAFETY", [{"category": "X", "blocked": True}])),
        (),
        None,
    ),
    "gemini's guardrail blocks the prompt": (
        "gemini",
        gemini({"promptFeedback": {"blockReason": "MODEL_ARMOR", "blockReasonMessage": SORRY}}),
        (),
        SORRY,
    ),
    "gemini's guardrail gives no words": (
        "gemini",
        gemini({"promptFeedback": {"blockReason": "MODEL_ARMOR"}}),
        (),
        BLOCKED,
    ),
    "gemini's policy blocks the prompt": (
        "gemini",
        gemini({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
        (),
        None,
    ),
    "anthropic refuses": ("anthropic", anthropic(), ("Here is",), None),
}


def decoded(wire: str, pieces: Sequence[bytes]) -> list[StreamEvent]:
    decoder = WIRES[wire].decoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


@pytest.mark.requirement("E2", "K1")
@pytest.mark.parametrize("case", CASES)
def test_what_is_left_of_an_answer(case: str) -> None:
    wire, body, texts, replacement = CASES[case]
    events = decoded(wire, [body])
    fold = AnswerFold()
    fold.add(events)
    answer = fold.finish()
    assert answer.complete
    assert tuple(block.text_content for block in answer.blocks) == texts
    told = [
        event.replacement for event in events if isinstance(event, RedactContent) and event.side == "user"
    ]
    assert told == ([] if replacement is None else [replacement])


@pytest.mark.requirement("E2", "E4", "K1")
@pytest.mark.parametrize("case", CASES)
@settings(deadline=None)
@given(data=st.data())
def test_any_cut_gives_the_same(case: str, data: st.DataObject) -> None:
    wire, body, texts, _ = CASES[case]
    places = sorted(data.draw(st.lists(st.integers(1, len(body) - 1), max_size=6)))
    pieces = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    whole = [event for event in decoded(wire, [body]) if isinstance(event, RedactContent)]
    assert [event for event in decoded(wire, pieces) if isinstance(event, RedactContent)] == whole
    assembler = MessageAssembler(wire=wire)
    for piece in pieces:
        assembler.feed_bytes(piece)
    assembler.close()
    message = assembler.current_message
    assert (tuple(block.text_content for block in message.blocks), message.complete) == (texts, True)


@pytest.mark.requirement("K1")
def test_a_whole_answer_of_a_blocked_input_replaces_the_users_message() -> None:
    message = {"role": "assistant", "content": [{"text": SORRY}]}
    answer = {"output": {"message": message}, "stopReason": "guardrail_intervened"}
    trace = {"guardrail": {"inputAssessment": {"g": TOPIC}}}
    events = WIRES["bedrock"].decode_answer(json.dumps({**answer, "trace": trace}).encode())
    assert [event for event in events if isinstance(event, RedactContent)] == [RedactContent("user", SORRY)]
    events = WIRES["bedrock"].decode_answer(json.dumps({**answer, "trace": blocked_output("To")}).encode())
    assert not any(isinstance(event, RedactContent) for event in events), "it holds the message alone"


def test_only_a_policy_that_blocked_counts() -> None:
    assert is_blocked({"g": TOPIC})
    assert is_blocked([{"contentPolicy": {"filters": [{"action": "BLOCKED"}]}}]), "older traces say no more"
    assert not is_blocked({"g": {"filters": [{"action": "BLOCKED", "detected": False}]}})
    assert not is_blocked({"g": MASKED})
    assert not is_blocked(None)
