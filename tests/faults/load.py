"""Several conversations at once, each turn watched by three clients, and the accounts of a crash."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.faults.tools import found, weight
from tests.faults.watching import GONE, Api, Frame, Watcher, shown_text, stored_blocks, text_of
from turnstream.core.blocks import Block
from turnstream.core.history import CANCELLED_BY_ERROR
from turnstream.core.stream_events import TextDelta
from turnstream.simulator import texts
from turnstream.simulator.script import story
from turnstream.tools.ledger import OUTCOME_UNKNOWN
from turnstream.turns.takeover.positions import unanswered_calls

_AGENT_SAYS = (
    texts.THOUGHT,
    "Let me look that up.",
    '{"subject":"example 2"}',
    '{"subject":"example 3"}',
    found("example 2"),
    weight("example 3"),
    texts.THOUGHT,
    f"The tools say: {found('example 2')}; {weight('example 3')}",
)
PLAIN = ("thinking:pace=0.0018", "story:events=220,pace=0.002,seed=1")
AGENTS = tuple(f"agent:pace=0.0006,seed={seed}" for seed in (1, 2, 3))
MODELS: dict[str, tuple[str, ...]] = {
    PLAIN[0]: (texts.THOUGHT, texts.UNUSUAL),
    PLAIN[1]: ("".join(event.text for event in story(220, 1) if isinstance(event, TextDelta)),),
    "agent:pace=0.0015": _AGENT_SAYS,
    **dict.fromkeys(AGENTS, _AGENT_SAYS),
}
"""Prompts and the texts of the expected blocks. Agents also have the arguments and results of two tools."""
MIXED = (*PLAIN, "agent:pace=0.0015")


WRITE_SECONDS = 0.2
"""Seconds that a write of the journal may take after its interval, on a busy machine.

If a POST, which is one write too, took at least half of that, the limit is twice the time of the POST.
"""


@dataclass
class Conversation:
    """A chat with its turns, as they were after their end."""

    chat_id: str
    path: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last_turn(self) -> str | None:
        return self.path[-1]["id"] if self.path else None


@dataclass
class WatchedTurn:
    """One turn of the load. `turn_ids`: the ids of the user's and the assistant's turn, after the answer to
    the POST."""

    conversation: Conversation
    provider: str
    script: str
    key: str = field(default_factory=lambda: str(uuid4()))
    turn_ids: tuple[str, str] | None = None
    post_seconds: float = 0.0
    watchers: list[Watcher] = field(default_factory=list)

    @property
    def turn_id(self) -> str:
        assert self.turn_ids is not None
        return self.turn_ids[1]

    async def post(self, api: Api) -> dict[str, Any]:
        """Send the POST, or repeat it."""
        began = time.monotonic()
        status, started = await api.post_turn(
            self.conversation.chat_id,
            "tell me 🙂",
            f"{self.provider}/{self.script}",
            prev=self.conversation.last_turn,
            key=self.key,
        )
        assert status == 201, started
        self.post_seconds = max(self.post_seconds, time.monotonic() - began)
        return started

    async def run(self, api: Api, draw: random.Random, on_frame: Callable[[Frame], None]) -> None:
        """Send the POST, then watch with three clients: one stays, one leaves early, one joins late."""
        try:
            started = await self.post(api)
        except GONE:
            return
        self.turn_ids = started["user_turn"]["id"], started["assistant_turn"]["id"]
        stays, leaves, comes_late = self.watchers = [Watcher(self.turn_id) for _ in range(3)]
        leave_at, come_at = draw.randint(2, 60), draw.randint(2, 60)
        arrived = asyncio.Event()

        def count(frame: Frame) -> bool:
            on_frame(frame)
            if len(stays.frames) >= come_at:
                arrived.set()
            return False

        async def come_late() -> None:
            await arrived.wait()
            await comes_late.watch(api)

        late = asyncio.create_task(come_late())
        early = asyncio.create_task(leaves.watch(api, until=lambda _: len(leaves.frames) >= leave_at))
        await stays.watch(api, until=count)
        if not arrived.is_set():
            late.cancel()
        await asyncio.gather(early, late, return_exceptions=True)


@dataclass
class Account:
    """Return the loss by crashes in seconds of text: each lost part with its allowed length."""

    lost: list[tuple[float, float]] = field(default_factory=list)
    truncated: int = 0
    resumed: int = 0
    open_at_death: int = 0
    """Turns of which a client saw the start of a block, and not its stop."""
    stored_unseen: int = 0
    """Turns with a stored whole block whose stop no client saw."""
    kept_unacknowledged: int = 0
    """Turns that exist although the answer to their POST was lost."""
    inside_tools: int = 0
    """Tool calls that had begun and had not ended."""
    calls_in_histories: int = 0
    results_stored_unseen: int = 0
    """Turns with a stored tool result whose stop no client saw."""


async def verify_after_crash(
    turn: WatchedTurn, api: Api, journal_interval: float, account: Account
) -> dict[str, Any]:
    """Compare the clients' events with the stored turn, then resume. Return the stored turn."""
    row = await api.turn(turn.turn_id)
    stored = stored_blocks(row)
    assert row["status"] in ("complete", "error"), row
    if row["status"] == "error":
        assert row["error"]["code"] == "orphaned", row
    expected = MODELS[turn.script]
    assert not unanswered_calls(stored), stored
    for block in stored:
        if is_made_by_recovery(block):
            continue
        text = shown_text(block)
        assert expected[block.sequence] == text or (
            block.partial and expected[block.sequence].startswith(text)
        ), (block, expected[block.sequence])
    died = max((frame.at for watcher in turn.watchers for frame in watcher.frames), default=0.0)
    allowed = journal_interval + max(WRITE_SECONDS, 2 * turn.post_seconds)
    account.open_at_death += any(watcher.open_text[0] >= 0 for watcher in turn.watchers)
    seen = {index for watcher in turn.watchers for index in watcher.stopped}
    unseen = [
        block.block_type
        for block in stored
        if not (block.partial or block.sequence in seen or is_made_by_recovery(block))
    ]
    account.stored_unseen += bool(unseen)
    account.results_stored_unseen += "tool_result" in unseen
    for watcher in turn.watchers:
        for index, block in watcher.stopped.items():
            assert stored[index] == block
        lost_from = first_lost(watcher, stored)
        if lost_from is not None:
            account.lost.append((died - lost_from.at, allowed))
            assert died - lost_from.at <= allowed, "more is lost than the journal may lose"
        await _resume(watcher, api, stored, row["status"], told=lost_from is not None, account=account)
    fresh = await api.watched(turn.turn_id)
    assert fresh.fold.blocks == stored
    return row


def is_made_by_recovery(block: Block) -> bool:
    """The result of a call that the crash interrupted, or that had not begun (G5)."""
    said = (block.content or {}).get("content")
    return block.block_type == "tool_result" and said in (CANCELLED_BY_ERROR, OUTCOME_UNKNOWN.text)


def first_lost(watcher: Watcher, stored: list[Block]) -> Frame | None:
    """Return the first frame whose text is not stored."""
    index, seen = watcher.open_text
    if index < 0:
        return None
    kept = len(shown_text(stored[index])) if index < len(stored) else 0
    if kept >= len(seen):
        return None
    length = 0
    for frame in watcher.frames:
        if frame.data.get("block_index") == index:
            length = len(text_of(frame)) + (length if frame.name == "block_delta" else 0)
            if length > kept:
                return frame
    raise AssertionError("seen text without a frame")


async def _resume(
    watcher: Watcher, api: Api, stored: list[Block], status: str, *, told: bool, account: Account
) -> None:
    """Resume with the watcher's cursor. The watcher must get a notice of lost text, and end with the stored
    blocks."""
    before = len(watcher.frames)
    was_ended = watcher.ended
    await watcher.watch(api)
    new = watcher.frames[before:]
    account.resumed += 1
    if was_ended:
        assert (watcher.status, new) == (204, [])
    truncated = [frame for frame in new if frame.data.get("code") == "truncated"]
    if told:
        assert truncated, f"text is gone, and the watcher was not told: {new[:2]}"
    if truncated:
        account.truncated += 1
        assert truncated == new[:1]
        index = truncated[0].data["block_index"]
        assert not any(block.partial or is_made_by_recovery(block) for block in stored[:index])
        # The recovery adds results, also those that the ledger had.
        assert all(block.partial or block.block_type == "tool_result" for block in stored[index:])
    assert watcher.fold.blocks == stored
    expected = {"complete": ["turn_complete"], "error": ["turn_error"]}[status]
    assert watcher.terminal_events() == expected
