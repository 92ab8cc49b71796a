"""For every turn, and every time at which clients of Anthropic Messages or Ollama join it, each client ends
with the stored answer, by the decoder of the wire."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import example as sample
from hypothesis import strategies as st

from tests.turnlog.dialect_watching import play
from tests.turnlog.scripted import TURN_ID, ScriptedTurn
from tests.turnlog.test_subscription_properties import (
    ACTIONS,
    BATCHES,
    ENDS,
    LIMITS,
    SECONDS,
    TEXTS,
    TICKS,
    Action,
    End,
    Limits,
    patched,
    scripted,
)
from turnstream.core.answers import AnswerFold
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    StreamError,
    TextDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset, SourceEvent
from turnstream.dialects.anthropic.encoder import encoder_of as anthropic_encoder
from turnstream.dialects.anthropic.encoder import projection_of
from turnstream.dialects.ollama.encoder import encoder_of as ollama_encoder
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.turnlog.base import DialectEncoder
from turnstream.wires import WIRES
from turnstream.wires.base import rest_of
from turnstream.wires.ollama.encoder import CHAT

CLIENT_TOOLS = ("n",)
CALL = 99
"""Index of a call that no other event has."""
SEAL = OriginSeal(b"x" * 32)


class WireFold:
    """Reads a stream with the decoder of a wire. `answer` exists once the stream has ended."""

    def __init__(self, wire: str) -> None:
        self._decoder = WIRES[wire].decoder()
        self._fold = AnswerFold()
        self._error: StreamError | None = None

    def receive(self, data: bytes) -> None:
        text = data.decode()
        assert text.splitlines() == text.split("\n")[:-1], "a character ends a line for some readers"
        assert self._error is None, f"{text} after an error"
        self._add(self._decoder.feed(data))

    def end(self) -> tuple[tuple[Block, ...], str | None, bool]:
        """Return the blocks, the code of the error or None, and True if the end marker arrived."""
        rest, cut = rest_of(self._decoder)
        self._add(rest)
        answer = self._fold.finish()
        error = self._error.message if self._error is not None else None
        return answer.blocks, error, cut is None and answer.stop is not None

    def _add(self, events: Any) -> None:
        self._error = next((event for event in events if isinstance(event, StreamError)), self._error)
        self._fold.add(events)


def encoder_of(wire: str) -> DialectEncoder:
    if wire == "anthropic":
        return anthropic_encoder(TURN_ID, projection_of(CLIENT_TOOLS, SEAL))
    return ollama_encoder(CLIENT_TOOLS, model="m", form=CHAT, clock=lambda: 7)


@pytest.mark.requirement("P2", "P5", "N6", "N7")
@pytest.mark.parametrize("wire", ["anthropic", "ollama"])
def test_every_stream_is_valid_and_shows_the_stored_answer_or_an_error(wire: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @sample(  # another block has the index of a retracted one, of which nothing was shown
        pieces=None,
        batches=[[ToolInputDelta(0, ""), BlockReset(0), TextDelta(0, "a")]],
        limits=Limits(0, 1, 1, 1, 0, 200, 1, 1),
        ticks=[2],
        archive_ticks=[],
        actions=[Action("read", 1, 0), Action("read", 1, 0), Action("read", 1, 0)],
        end=End("complete", 0),
    )
    @given(
        pieces=st.none() | st.lists(TEXTS, max_size=3),
        batches=BATCHES,
        limits=LIMITS,
        ticks=TICKS,
        archive_ticks=TICKS,
        actions=ACTIONS,
        end=ENDS,
    )
    def example(
        pieces: list[str] | None,
        batches: list[list[SourceEvent]],
        limits: Limits,
        ticks: list[int],
        archive_ticks: list[int],
        actions: list[Action],
        end: End,
    ) -> None:
        async def watch() -> None:
            async with asyncio.timeout(SECONDS):
                turn = scripted([*call_of(pieces), *batches], limits, (ticks, ticks), end)
                dialect = lambda: (encoder_of(wire), WireFold(wire))  # noqa: E731
                for watcher in await play(turn, actions, archive_ticks, dialect):
                    check(turn, wire, cast("WireFold", watcher.fold))

        with ExitStack() as stack:
            patched(stack, limits._replace(part=32 * 1024))  # a call's id and name are never apart
            asyncio.run(watch())

    example()


def call_of(pieces: list[str] | None) -> list[list[SourceEvent]]:
    """A call for the client, whose arguments come in these pieces. None: no call."""
    if pieces is None:
        return []
    start = ContentBlockStart(CALL, "tool_use", {"tool_use_id": "c", "tool_name": "n"})
    return [[start], *([ToolInputDelta(CALL, piece)] for piece in pieces), [ContentBlockStop(CALL)]]


def check(turn: ScriptedTurn, wire: str, fold: WireFold) -> None:
    """A stream without an error has everything that is stored. Only a retracted answer shows other text."""
    status = turn.store.ends[0].outcome.status
    blocks, error, is_whole = fold.end()
    assert is_whole == (error is None)
    if error is not None and "another text" in error:
        return
    assert is_whole == (status == "complete")
    stored = sorted((row.block for row in turn.store.blocks), key=lambda block: block.sequence)
    for block_type in ("text", "thinking"):
        assert text_of(blocks, block_type) == text_of(stored, block_type)
    calls = [call for call in calls_of(stored) if call["tool_name"] in CLIENT_TOOLS]
    shown = calls_of(blocks)
    assert [call["tool_name"] for call in shown] == [call["tool_name"] for call in calls]
    if wire == "anthropic":
        assert [(call["tool_use_id"], call["input_json"]) for call in shown] == [
            (call["tool_use_id"], call.get("input_json") or "{}") for call in calls
        ]
        check_signatures(blocks, stored)


def check_signatures(blocks: tuple[Block, ...], stored: list[Block]) -> None:
    """Signatures of whole thinking are sealed with the origin of their block, if it has one."""
    whole = [block.content or {} for block in stored if block.block_type == "thinking" and not block.partial]
    shown = [block.content or {} for block in blocks if block.block_type == "thinking"]
    for content, sealed in zip(whole, shown, strict=False):
        if signature := content.get("signature"):
            origin = content.get("origin")
            opened = SEAL.opened(sealed["signature"])
            assert opened == (None if origin is None else (signature, origin))


def text_of(blocks: Any, block_type: str) -> str:
    return "".join(block.text_content or "" for block in blocks if block.block_type == block_type)


def calls_of(blocks: Any) -> list[dict[str, Any]]:
    calls = [block.content or {} for block in blocks if block.block_type == "tool_use"]
    return [call for call in calls if not call.get("provider_executed")]
