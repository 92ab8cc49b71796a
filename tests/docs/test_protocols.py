"""The page of the other systems' protocols names each event of a turn, and each chunk that is sent."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest

from tests.dialects.ui_fold import FIELDS, OF_SEVEN, OF_SIX
from tests.docs.pages import DOCS
from turnstream.core.turn_events import Terminal, TurnEvent

PAGE = (DOCS / "reference" / "protocols.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    "event", sorted(set(get_args(TurnEvent)) - set(get_args(Terminal)), key=str), ids=str
)
def test_each_event_has_its_chunks_of_the_ai_sdk(event: type[msgspec.Struct]) -> None:
    assert f"`{event.__struct_config__.tag}`" in section("AI SDK")


@pytest.mark.parametrize("chunk", [*FIELDS, *OF_SIX, *OF_SEVEN])
def test_each_chunk_of_the_ai_sdk_is_named(chunk: str) -> None:
    assert f"`{chunk}`" in section("AI SDK")
