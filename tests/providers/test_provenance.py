"""Providers that may get a block back (requirement K2)."""

from __future__ import annotations

from typing import Any

import pytest

from turnstream.core.blocks import Block, Message
from turnstream.core.origin import Origin, seal_of
from turnstream.core.stream_events import MessageStart, TextDelta
from turnstream.providers.conversations import request_for, with_origin
from turnstream.wires.base import ModelRequest


def sealed(origin: Origin) -> Block:
    block = Block(0, "thinking", "hm", {"signature": "s"})
    content: Any = {**(block.content or {}), **seal_of(block, origin)}
    return Block(0, "thinking", "hm", content)


def request_with(*blocks: Block) -> ModelRequest:
    said = (*blocks, Block(len(blocks), "text", "So."))
    return ModelRequest("m", (Message("user", (Block(0, "text", "?"),)), Message("assistant", said)))


@pytest.mark.requirement("K2")
@pytest.mark.parametrize(
    ("thought", "called", "goes"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5", True),
        ("claude-opus-5-5", "claude-opus-5-5", True),
        ("claude-sonnet-4-5", "claude-opus-4-5", True),
        ("claude-opus-5-5", "claude-sonnet-4-5", False),
        ("claude-sonnet-4-5", "claude-opus-5-5", False),
    ],
)
def test_thinking_that_is_bound_goes_to_its_own_model_alone(thought, called, goes):
    block = sealed(Origin("anthropic", "anthropic", thought))
    request = request_for(request_with(block), Origin("anthropic", "anthropic", called))
    assert [block.block_type for block in request.messages[1].blocks] == (["thinking"] if goes else []) + [
        "text"
    ]


@pytest.mark.requirement("K2")
def test_a_request_that_nobody_sealed_is_the_same_request():
    request = request_with(Block(0, "thinking", "mine", {"signature": "s"}))
    assert request_for(request, Origin("anthropic", "a", "m")) is request


@pytest.mark.requirement("K2", "P4")
def test_a_message_of_which_nothing_is_left_is_left_out():
    alone = Message("assistant", (sealed(Origin("anthropic", "there", "m")),))
    request = ModelRequest("m", (Message("user", (Block(0, "text", "?"),)), alone))
    assert len(request_for(request, Origin("anthropic", "here", "m")).messages) == 1


def test_only_the_start_of_a_message_tells_who_speaks():
    origin = Origin("anthropic", "here", "m")
    events = [MessageStart("i", "m"), TextDelta(0, "a")]
    assert with_origin(events, origin) == [MessageStart("i", "m", origin=origin), TextDelta(0, "a")]
