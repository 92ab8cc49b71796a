"""Any bytes as a stream of chat.completions raise only our own errors. Every cut gives the same events."""

from __future__ import annotations

import itertools
import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_chat.chunks import frames, outcome
from turnstream.core.stream_events import (
    MessageStop,
    Metadata,
    StreamError,
    StreamNotice,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(frames, max_size=8), st.sampled_from(["fail", "skip"]), st.randoms(use_true_random=False))
@pytest.mark.requirement("E4", "E6")
def test_nothing_but_our_errors_and_any_cut_alike(
    sent: list[bytes], on_malformed: Literal["fail", "skip"], chance: random.Random
) -> None:
    data = b"".join(sent)
    whole = outcome([data], on_malformed)
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(12)))
    bounds = [0, *places, len(data)]
    assert outcome([data[a:b] for a, b in itertools.pairwise(bounds)], on_malformed) == whole
    assert outcome([data[n : n + 1] for n in range(len(data))], on_malformed) == whole
    events, _ = whole
    usages = [event.usage for event in events if isinstance(event, Metadata) and event.usage is not None]
    assert all(0 <= (usage.input_tokens or 0) < 2**63 for usage in usages)
    stops = [place for place, event in enumerate(events) if isinstance(event, MessageStop | StreamError)]
    assert len([event for event in events if isinstance(event, MessageStop)]) <= 1
    assert len(stops) <= 1
    if stops:
        assert all(isinstance(event, Metadata | StreamNotice) for event in events[stops[0] + 1 :])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
@pytest.mark.requirement("E6")
def test_any_bytes(data: bytes) -> None:
    outcome([data], "fail")
    outcome([b"data: " + data + b"\n\n"], "skip")
