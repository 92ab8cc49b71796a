"""Thinking passes through a client of Responses and back: unchanged, or without the parts that the client
changed."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from tests.turnlog.scripted import turn_row
from turnstream.core.blocks import Block
from turnstream.core.origin import ORIGIN, Origin, seal_of
from turnstream.dialects.openai_responses.encoder import response_of
from turnstream.dialects.openai_responses.request import parse_request
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.store.base import BlockRecord

SEAL = OriginSeal(b"k" * 32)
ORIGIN_OF = Origin("anthropic", "anthropic", "claude")


def with_origin(block: Block) -> Block:
    return replace(block, content={**(block.content or {}), **seal_of(block, ORIGIN_OF)})


SIGNED = with_origin(Block(0, "thinking", "I think", {"signature": "abc"}))
REDACTED = with_origin(Block(1, "thinking", "", {"redacted": "xyz"}))
SAID = Block(2, "text", "So it is.")


def shown(*blocks: Block) -> list[dict[str, object]]:
    """Return the output items of an answer with these blocks."""
    rows = [BlockRecord("r", "t", block, 1, 1, 0) for block in blocks]
    return response_of(replace(turn_row(), status="complete"), rows, SEAL)["output"]


def sent_back(output: list[dict[str, object]]) -> tuple[Block, ...]:
    items = [{"role": "user", "content": "one"}, *output, {"role": "user", "content": "two"}]
    body = json.dumps({"model": "m", "input": items}).encode()
    _, answer = parse_request(body, seal=SEAL).asked.conversation.messages
    return answer.blocks


@pytest.mark.requirement("N5", "N9")
def test_signed_and_redacted_thinking_comes_back_as_it_was() -> None:
    blocks = sent_back(shown(SIGNED, REDACTED, SAID))
    assert [(block.text_content, block.content) for block in blocks] == [
        ("I think", SIGNED.content),
        ("", REDACTED.content),
        ("So it is.", None),
    ]


@pytest.mark.requirement("N9")
def test_a_signature_that_was_changed_is_removed() -> None:
    output = shown(SIGNED, SAID)
    output[0]["encrypted_content"] = str(output[0]["encrypted_content"]).replace(
        "turnstream1.", "turnstream1.x"
    )
    thinking, _ = sent_back(output)
    assert not {"signature", ORIGIN} & (thinking.content or {}).keys()


def test_without_its_own_id_an_item_is_the_callers() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "theirs"}
    thinking, _ = sent_back([item, *shown(SAID)])
    own = (thinking.content or {})["provider_metadata"]["responses"]
    assert (own["id"], own["encrypted_content"]) == ("rs_1", "theirs")
