"""Deltas with the extra fields of some vendors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.wires.openai_chat.chunks import DONE, frame
from turnstream.core.stream_events import StreamEvent
from turnstream.wires.openai_chat.decoder import OpenAIChatDecoder

EXTRAS: dict[str, Callable[[int], dict[str, Any]]] = {
    "index": lambda _: {"index": 0},
    "an index that counts": lambda n: {"index": n},
    "token_ids": lambda n: {"token_ids": [n, n + 1]},
    "created": lambda n: {"created": 1_700_000_000 + n // 50},
    "thinking_blocks": lambda _: {"thinking_blocks": []},
    "provider_specific_fields": lambda n: {"provider_specific_fields": {"citation": None, "n": n}},
    "provider_metadata": lambda n: {"provider_metadata": {"gateway": {"cost": str(n)}}},
    "a number that nobody knows": lambda n: {"speed": n / 7},
    "a string that nobody knows": lambda _: {"tier": "gold"},
    "a string that changes": lambda n: {"tier": f"{n}"},
    "an object that nobody knows": lambda n: {"timing": {"first": 1, "now": n}},
    "a list that nobody knows": lambda n: {"ranks": [n, 2.5]},
}


def decode_all(events: list[Any], *, short_cut: bool) -> list[StreamEvent]:
    decoder = OpenAIChatDecoder(event_limit=100_000, on_malformed="skip")
    if not short_cut:
        decoder._template_tries = 10**9
    return [event for sent in [*map(frame, events), DONE] for event in decoder.feed(sent)]
