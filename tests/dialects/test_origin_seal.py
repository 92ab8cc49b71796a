"""Origins that pass through clients cannot be forged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.blocks import Block
from turnstream.core.origin import Origin, returnable_blocks, seal_of
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal

ORIGIN = Origin("anthropic", "claude", "sonnet")
SEAL = OriginSeal(b"k" * 32)


def sealed(block: Block) -> tuple[Block, Block]:
    """Return the block as its client sends it back."""
    content = block.content or {}
    stored = Block(0, "thinking", block.text_content, {**content, **seal_of(block, ORIGIN)})
    given = SEAL.sealed(content["signature"], seal_of(block, ORIGIN)["origin"])
    return stored, Block(0, "thinking", block.text_content, {"signature": given})


def sent(block: Block) -> tuple[Block, ...]:
    return returnable_blocks([block], lambda origin: origin == ORIGIN)


@pytest.mark.requirement("K2")
@given(st.text(), st.text(min_size=1))
def test_a_block_that_went_through_a_client_is_sent_to_its_provider(text: str, signature: str) -> None:
    block = Block(0, "thinking", text, {"signature": signature})
    stored, returned = sealed(block)
    assert SEAL.opened_blocks([returned]) == (stored,)
    assert sent(stored) == (block,)


@pytest.mark.requirement("K2")
@given(st.data())
def test_a_changed_signature_has_no_origin_or_is_not_sent(data: st.DataObject) -> None:
    _, returned = sealed(Block(0, "thinking", "I think", {"signature": "c2ln"}))
    text: str = (returned.content or {})["signature"]
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters()) + text[place + 1 :]
    (block,) = SEAL.opened_blocks([Block(0, "thinking", "I think", {"signature": changed})])
    assert changed == text or block.content is None or not sent(block)


@pytest.mark.requirement("K2")
def test_other_keys_other_texts_and_own_origins_are_not_trusted() -> None:
    block = Block(0, "thinking", "I think", {"signature": "c2ln"})
    stored, returned = sealed(block)
    assert OriginSeal(b"o" * 32).opened_blocks([returned]) == (Block(0, "thinking", "I think"),)
    (moved,) = SEAL.opened_blocks([Block(0, "thinking", "another", returned.content)])
    assert sent(moved) == ()
    assert SEAL.opened_blocks([stored]) == (Block(0, "thinking", "I think"),)
    forged = Block(0, "text", "hi", {"origin": (stored.content or {})["origin"]})
    assert SEAL.opened_blocks([forged]) == (Block(0, "text", "hi"),)
