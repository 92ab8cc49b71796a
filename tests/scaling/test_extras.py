"""Extra fields in every delta cost at most half as much again as the stream without them."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces

pytestmark = pytest.mark.fault(20)

Extras = Callable[[int, str], dict[str, Any]]
DELTAS = 50_000
MOST = 1.5
ROUNDS = 12
READ = 64 * 1024
HEAD = {
    "id": "chatcmpl-8f3b2a",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "gpt-x-large",
}


def alike(_n: int, _said: str) -> dict[str, Any]:
    """Fields that LiteLLM and vLLM add to each delta, all at once."""
    return {
        "index": 0,
        "token_ids": [1, 2, 3],
        "created": 1_700_000_000,
        "thinking_blocks": [],
        "provider_specific_fields": {"citation": None},
        "provider_metadata": {"gateway": {"cost": "0.0001"}},
    }


def five(n: int, _said: str) -> dict[str, Any]:
    metadata = {"gateway": {"cost": f"{n}"}}
    return {"index": n, "token_ids": [n, n + 1], "created": n, "provider_metadata": metadata, "speed": n / 7}


def six(n: int, _said: str) -> dict[str, Any]:
    fields = {"citation": None, "chunk": n}
    return {**alike(n, _said), **five(n, _said), "provider_specific_fields": fields}


def empty(n: int, _said: str) -> dict[str, Any]:
    """Fields without content beside a field that changes."""
    entry = {"type": "thinking", "thinking": "", "signature": None}
    return {
        "index": n,
        "thinking_blocks": [entry],
        "provider_specific_fields": {"a": None},
        "b": {"c": {"d": ""}},
    }


def three_times(_n: int, said: str) -> dict[str, Any]:
    """Thinking as LiteLLM repeats it: beside `reasoning_content` in two other fields."""
    entries = [{"type": "thinking", "thinking": said, "signature": None}]
    return {"thinking_blocks": entries, "provider_specific_fields": {"thinking_blocks": entries}}


def four_times(n: int, said: str) -> dict[str, Any]:
    """Thinking as LiteLLM repeats it: as text too."""
    given = three_times(n, said)
    return {
        **given,
        "provider_specific_fields": {"reasoning_content": said, **given["provider_specific_fields"]},
    }


def under_two_names(n: int, said: str) -> dict[str, Any]:
    """Thinking that a gateway gives under the names of two vendors, beside a field that changes."""
    return {**four_times(n, said), "reasoning": said, "created": n}


CASES: dict[str, tuple[str, Extras]] = {
    "all of them, alike in each delta": ("content", alike),
    "token ids": ("content", lambda n, _: {"token_ids": [n, n + 1]}),
    "metadata": ("content", lambda n, _: {"provider_metadata": {"gateway": {"cost": f"{n}"}}}),
    "a number that nobody knows": ("content", lambda n, _: {"speed": n / 7}),
    "five at once": ("content", five),
    "six at once, and a seventh": ("content", six),
    "empty fields": ("content", empty),
    "lists of objects": ("content", lambda n, _: {"scores": [{"score": n / 7}]}),
    "five at once, in thinking": ("reasoning_content", five),
    "thinking that is said three times": ("reasoning_content", three_times),
    "thinking that is said four times": ("reasoning_content", four_times),
    "thinking under two names": ("reasoning_content", under_two_names),
}


def frame(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(event).encode()


def frames_with(field: str, extras: Extras) -> list[bytes]:
    def event(n: int) -> bytes:
        said = f"word{n % 97} "
        delta = {field: said, **extras(n, said)}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return frame({**HEAD, "choices": [choice]})

    end = frame({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*map(event, range(DELTAS)), end, b"data: [DONE]\n\n"]


def in_large_reads(frames: list[bytes]) -> list[bytes]:
    body = b"".join(frames)
    return [body[place : place + READ] for place in range(0, len(body), READ)]


def cpu_of(reads: list[bytes]) -> float:
    """Return the CPU seconds that decoding and folding take."""
    began = time.process_time()
    assert decode_pieces(WIRES["openai-chat"], reads)["complete"]
    return time.process_time() - began


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cut", [list, in_large_reads], ids=["one event per read", "64 KiB per read"])
def test_extras_cost_at_most_half_as_much_again(name: str, cut: Callable[[list[bytes]], list[bytes]]) -> None:
    field, extras = CASES[name]
    plain, rich = cut(frames_with(field, lambda _n, _said: {})), cut(frames_with(field, extras))
    best_plain = best_rich = float("inf")
    gc.disable()
    try:
        for _ in range(ROUNDS):
            best_plain, best_rich = min(best_plain, cpu_of(plain)), min(best_rich, cpu_of(rich))
            if best_rich <= MOST * best_plain:
                break
    finally:
        gc.enable()
    assert best_rich <= MOST * best_plain
