"""A history that every provider accepts, built from turns that ended in any way.

The providers' rules, combined:
  - roles alternate, beginning with the user; for a next call the user has the last word
  - no blank text, no empty message
  - each tool call has exactly one result, in the very next message, before anything else the user says there;
    no result without its call; ids are unique
  - each call names a tool: a call without a name is named `UNNAMED_TOOL`, and keeps its result
  - a call of a provider's own tool comes before its result, and neither occurs without the other
  - thinking goes back complete or not at all, and is never the last thing in a message
  - an image that a model made belongs to the assistant; wires whose API takes no such image omit it

Turns do not follow these rules: they are cut off by errors, cancels and crashes. A history is computed for
one call and not stored. Each wire omits the blocks that only its provider refuses: thinking that the provider
did not sign, raw blocks of another provider.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from turnstream.core.admission import is_unreadable
from turnstream.core.blocks import (
    Block,
    Content,
    Message,
    call_id,
    is_client_call,
    is_client_result,
    is_provider_executed,
)
from turnstream.core.lifecycle import TurnStatus

Role: TypeAlias = Literal["user", "assistant"]

CANCELLED = "cancelled"
"""Result that the model gets for a tool call that never ran."""
CANCELLED_BY_ERROR = "cancelled: the turn ended with an error"
"""Result that the model gets for a tool call that never ran because the turn ended with an error."""
UNNAMED_TOOL = "unnamed_tool"
"""Name of a nameless call in a history, because every provider refuses an empty name."""
CONTINUE = "Continue."
"""Text of the user message that is added before a next call if the assistant had the last word."""


class PastTurn(NamedTuple):
    """A turn as history sees it.

    Attributes:
        blocks: The turn's blocks in order. An assistant's turn includes the results of its tools.
    """

    role: str
    status: TurnStatus
    blocks: Sequence[Block]


class _Side:
    """The blocks of one role up to the next change of role.

    Attributes:
        blocks: The blocks without `results`.
        results: Results, given by the user's side, for the calls of the side before.
        unanswered: The result text for a call of this side that has no result.
    """

    __slots__ = ("blocks", "results", "role", "unanswered")

    def __init__(self, role: Role, unanswered: str) -> None:
        self.role: Role = role
        self.blocks: list[Block] = []
        self.results: list[_Result] = []
        self.unanswered = unanswered

    @property
    def calls(self) -> list[Block]:
        """Calls of client tools in this side, in order."""
        return [block for block in self.blocks if is_client_call(block)]


class _Result(NamedTuple):
    """A tool's result. `given_by_user`: the block comes from a user's turn."""

    block: Block
    given_by_user: bool


def build_history(
    turns: Iterable[tuple[str, TurnStatus, Sequence[Block]]], *, for_next_call: bool = True
) -> tuple[Message, ...]:
    """Return the messages for `turns`, which are PastTurns, oldest first.

    Empty if the turns have no usable block.

    Args:
        for_next_call: The user has the last word, with `CONTINUE` if needed. If False, the last message may
            be the assistant's, which some providers continue.
    """
    sides = _merge(side for turn in turns for side in _sides_of(PastTurn(*turn)))
    sides = _merge(_pair(sides))  # merge again: removing results can leave one role twice in a row

    sides = _merge(_without_incomplete_pairs(_begin_with_user(sides)))
    messages = [_message_of(side) for side in sides]
    if for_next_call and messages and messages[-1].role == "assistant":
        messages.append(Message("user", (Block(0, "text", CONTINUE),)))
    return tuple(_with_unique_ids(messages))


def _sides_of(turn: PastTurn) -> list[_Side]:
    """Return the sides of a turn.

    An assistant's turn is split after each run of results, which the user's side gives.
    """
    unanswered = CANCELLED_BY_ERROR if turn.status == "error" else CANCELLED
    sides: list[_Side] = []
    for block in _usable(turn):
        role: Role = "user" if turn.role == "user" or is_client_result(block) else "assistant"
        if not sides or sides[-1].role != role:
            sides.append(_Side(role, unanswered))
        if is_client_result(block):
            sides[-1].results.append(_Result(block, turn.role == "user"))
        else:
            sides[-1].blocks.append(block)
    for side in sides:
        if side.role == "assistant":
            side.blocks = _without_trailing_thinking(side.blocks)
    return [side for side in sides if side.blocks or side.results]


def _usable(turn: PastTurn) -> list[Block]:
    """Return the turn's blocks that any provider accepts, regardless of the blocks around them."""
    answered = {call_id(block) for block in turn.blocks if is_client_result(block)}
    found: list[Block] = []
    for block in turn.blocks:
        if is_unreadable(block.content):
            keeps = block.block_type == "text" and _has_text(block)
        elif is_provider_executed(block):
            keeps = turn.role != "user" and not block.partial
        elif turn.role == "user":
            keeps = _is_valid_for_user(block)
        else:
            keeps = _is_valid_for_assistant(block, answered)
        if keeps:
            found.append(_as_call(_as_text(block)))
    return found


def _is_valid_for_user(block: Block) -> bool:
    match block.block_type:
        case "text" | "reference" | "partial_reference":
            return _has_text(block)
        case "image" | "document":
            content = block.content or {}
            has_text = block.block_type == "document" and content.get("text")
            return bool(has_text or content.get("url") or (content.get("data") and content.get("media_type")))
        case "tool_result":
            return not block.partial
        case _:
            return False


def _is_valid_for_assistant(block: Block, answered: set[str]) -> bool:
    content = block.content or {}
    match block.block_type:
        case "text" | "reference" | "partial_reference":
            return _has_text(block)
        case "thinking":
            return bool(block.text_content or content) and not block.partial
        case "tool_use":
            return not block.partial or call_id(block) in answered
        case "tool_result":
            return not block.partial
        case "provider":
            return bool(content) and not block.partial
        case "image":
            made = content.get("data") or content.get("url")
            return bool(made and content.get("media_type")) and not block.partial
        case "document":
            return False


def _without_trailing_thinking(blocks: list[Block]) -> list[Block]:
    """Return `blocks` without thinking at the end, because thinking must lead to an answer.

    Thinking at the end that has vendor details moves before the first client call, if there is one.
    """
    last = max((place for place, block in enumerate(blocks) if _may_follow_thinking(block)), default=-1)
    first_call = next((place for place, block in enumerate(blocks) if is_client_call(block)), None)
    trailing = blocks[last + 1 :]
    rest = [block for block in trailing if block.block_type != "thinking"]
    if first_call is None:
        return [*blocks[: last + 1], *rest]
    late = [block for block in trailing if block.block_type == "thinking" and _has_details(block)]
    return [*blocks[:first_call], *late, *blocks[first_call : last + 1], *rest]


def _merge(sides: Iterable[_Side]) -> list[_Side]:
    """Make the roles alternate.

    If the assistant continued without the results of its calls, cancel these calls.
    """
    merged: list[_Side] = []
    for side in sides:
        last = merged[-1] if merged else None
        if last is not None and last.role == side.role == "assistant" and last.calls:
            merged.append(_Side("user", CANCELLED))
            last = merged[-1]
        if last is None or last.role != side.role:
            merged.append(side)
        else:
            last.blocks.extend(side.blocks)
            last.results.extend(side.results)
    return merged


def _pair(sides: list[_Side]) -> list[_Side]:
    """Give each call exactly one result, in order, and remove results without a call."""
    paired: list[_Side] = []
    before: _Side | None = None
    for side in [*sides, _Side("user", CANCELLED)]:
        if side.role == "user":
            calls = before.calls if before is not None else []
            answers, orphans = _answers(calls, side.results, before.unanswered if before is not None else "")
            side.blocks = [*answers, *orphans, *side.blocks]
            side.results = []
        if side.blocks:
            paired.append(side)
        before = side
    return paired


def _answers(calls: list[Block], results: list[_Result], unanswered: str) -> tuple[list[Block], list[Block]]:
    """Return the results of `calls` in their order, and the user's results without a call, as text."""
    waiting: dict[str, deque[int]] = {}
    for number, result in enumerate(results):
        waiting.setdefault(call_id(result.block), deque()).append(number)
    answers: list[Block] = []
    for call in calls:
        identity = call_id(call)
        given = waiting.get(identity)
        answers.append(results[given.popleft()].block if given else _cancelled(identity, unanswered))
    known = {call_id(call) for call in calls}
    left = sorted(number for numbers in waiting.values() for number in numbers)
    orphans = [
        results[number].block
        for number in left
        if results[number].given_by_user and call_id(results[number].block) not in known
    ]
    return answers, [text for block in orphans if (text := _orphan_text(block)) is not None]


def _begin_with_user(sides: list[_Side]) -> list[_Side]:
    """Remove the assistant's first messages, and the results of their calls."""
    for place in range(0, len(sides), 2):
        if sides[place].role == "user":
            return sides[place:]
        if place + 1 < len(sides):
            user = sides[place + 1]
            user.blocks = [block for block in user.blocks if not is_client_result(block)]
            if user.blocks:
                return sides[place + 1 :]
    return []


def _without_incomplete_pairs(sides: list[_Side]) -> list[_Side]:
    """Remove a provider's own tool calls that have no later result, and results that have no earlier call.

    A client tool's results may separate a call from its result. The user's text may not.
    """
    keeps: set[tuple[int, int]] = set()
    asked: dict[str, list[tuple[int, int]]] = {}
    for n, side in enumerate(sides):
        if side.role == "user" and not all(is_client_result(block) for block in side.blocks):
            asked.clear()
        for k, block in enumerate(side.blocks):
            if not is_provider_executed(block):
                continue
            if block.block_type == "tool_use":
                asked.setdefault(call_id(block), []).append((n, k))
            elif waiting := asked.get(call_id(block)):
                keeps |= {waiting.pop(), (n, k)}
    for n, side in enumerate(sides):
        kept = [b for k, b in enumerate(side.blocks) if not is_provider_executed(b) or (n, k) in keeps]
        side.blocks = kept if side.role == "user" else _without_trailing_thinking(kept)
    return [side for side in sides if side.blocks]


def _with_unique_ids(messages: list[Message]) -> list[Message]:
    """Rename ids of calls that are empty or used before, and the ids of their results."""
    ids = _UnusedIds()
    unique: list[Message] = []
    renamed: deque[str] = deque()
    for message in messages:
        if message.role == "assistant":
            renamed.clear()
        blocks: list[Block] = []
        for block in message.blocks:
            if is_client_call(block):
                identity = ids.take(call_id(block))
                renamed.append(identity)
                blocks.append(_with_id(block, identity))
            elif is_client_result(block):
                blocks.append(_with_id(block, renamed.popleft()))
            else:
                blocks.append(block)
        unique.append(Message(message.role, tuple(blocks)))
    return unique


class _UnusedIds:
    """Ids of calls. Each id is returned once."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}
        """The next number to append, by requested id."""

    def take(self, identity: str) -> str:
        """Return `identity`, or an id derived from it if it is empty or used."""
        stem = identity or "call"
        number = self._numbers.get(stem, 2)
        while not identity or identity in self._used:
            identity = f"{stem}_{number}"
            number += 1
        self._numbers[stem] = number
        self._used.add(identity)
        return identity


def _message_of(side: _Side) -> Message:
    return Message(
        side.role,
        tuple(
            Block(n, block.block_type, block.text_content, block.content)
            for n, block in enumerate(side.blocks)
        ),
    )


def _as_text(block: Block) -> Block:
    """Return a reference as text, because not every provider has a block for references."""
    if block.block_type in ("reference", "partial_reference"):
        return Block(block.sequence, "text", block.text_content)
    return block


def _as_call(block: Block) -> Block:
    """Return a nameless call with a name, so that it stays in the history with its result."""
    content = block.content or {}
    if block.block_type != "tool_use" or content.get("provider_executed") or content.get("tool_name"):
        return block
    named: Content = {**content, "tool_name": UNNAMED_TOOL}
    return Block(block.sequence, block.block_type, block.text_content, named, block.partial)


def _orphan_text(block: Block) -> Block | None:
    value = (block.content or {}).get("content")
    text = value if isinstance(value, str) else block.text_content
    return Block(0, "text", text) if text and text.strip() else None


def _cancelled(identity: str, reason: str) -> Block:
    return Block(0, "tool_result", None, {"tool_use_id": identity, "content": reason, "is_error": True})


def _with_id(block: Block, identity: str) -> Block:
    content: Content = {**(block.content or {}), "tool_use_id": identity}
    return Block(block.sequence, block.block_type, block.text_content, content)


def _has_text(block: Block) -> bool:
    return bool(block.text_content and block.text_content.strip())


def _may_follow_thinking(block: Block) -> bool:
    """Return True if thinking may lead to the block.

    A generated image counts only if its provider accepts it in a request.
    """
    if block.block_type == "image":
        return "provider_metadata" in (block.content or {})
    return block.block_type in ("text", "tool_use", "tool_result")


def _has_details(block: Block) -> bool:
    match (block.content or {}).get("provider_metadata"):
        case {"reasoning_details": details} | {"thinking_blocks": details}:
            return bool(details)
        case _:
            return False
