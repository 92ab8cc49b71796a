"""The history of a chat as the next model call gets it: always one that every provider accepts (requirements P4, G5).

Turns may have ended in any way: cut off, failed, cancelled between a tool call and its result. What goes out

- begins and ends with the user, roles alternate, and no message is empty;
- has each tool call of the assistant answered in the user message right after it, by its result or, where that never
  came, by a synthetic one;
- holds no result without its call, no call with unfinished arguments, no thinking that was cut off before its signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from turnstream.core.blocks import Block, Message
from turnstream.core.lifecycle import TurnStatus

Role: TypeAlias = Literal["user", "assistant"]
CANCELLED_RESULT = "The call was cancelled before it had a result."


class PastTurn(NamedTuple):
    """A turn as history sees it."""

    role: str
    status: TurnStatus
    blocks: Sequence[Block]


def build_history(turns: Iterable[tuple[str, TurnStatus, Sequence[Block]]]) -> tuple[Message, ...]:
    """The messages of `turns` (role, status, blocks), oldest first, the new user turn last."""
    builder = _Builder()
    for role, _status, blocks in turns:
        for block in blocks:
            builder.add("user" if role == "user" else "assistant", block)
    return builder.finish()


class _Builder:
    """Collects blocks into alternating messages. `_pending` holds the calls of the last assistant message that still
    want a result."""

    def __init__(self) -> None:
        self._messages: list[tuple[Role, list[Block]]] = []
        self._pending: dict[str, None] = {}
        self._provider_calls: dict[str, Block] = {}

    def add(self, role: Role, block: Block) -> None:
        content: dict[str, Any] = block.content or {}
        match block.block_type:
            case "text":
                if block.text_content and block.text_content.strip():
                    self._append(role, block)
            case "thinking":
                if not block.partial and ("signature" in content or "redacted" in content or block.text_content):
                    self._append(role, block)
            case "tool_use":
                self._add_call(content, block)
            case "tool_result":
                self._add_result(role, content, block)
            case "image" | "provider":
                if not block.partial:
                    self._append(role, block)
            case "reference" | "partial_reference":
                if block.text_content:
                    self._append(role, Block(block.sequence, "text", block.text_content))

    def _add_call(self, content: dict[str, Any], block: Block) -> None:
        call_id = content.get("tool_use_id")
        if block.partial or not isinstance(call_id, str) or not call_id or not content.get("tool_name"):
            return
        if content.get("provider_executed"):
            self._provider_calls[call_id] = block
            self._append("assistant", block)
            return
        if not isinstance(content.get("input"), dict):
            return
        self._append("assistant", block)
        self._pending[call_id] = None

    def _add_result(self, role: Role, content: dict[str, Any], block: Block) -> None:
        call_id = content.get("tool_use_id")
        if content.get("provider_executed"):
            if self._provider_calls.pop(str(call_id), None) is not None and not block.partial:
                self._append("assistant", block)
        elif call_id in self._pending:
            del self._pending[call_id]
            self._append("user", block)
        elif role == "user" and (text := _result_text(content)):
            self._append("user", Block(block.sequence, "text", text))

    def _append(self, role: Role, block: Block) -> None:
        if self._pending and not (block.block_type == "tool_result" and role == "user"):
            if role == "assistant" and self._messages and self._messages[-1][0] == "assistant":
                if block.block_type in ("tool_use", "thinking", "text"):
                    self._messages[-1][1].append(block)
                    return
            self._answer_pending()
        if self._messages and self._messages[-1][0] == role:
            self._messages[-1][1].append(block)
        elif self._messages or role == "user":
            self._messages.append((role, [block]))

    def _answer_pending(self) -> None:
        """Give every call without a result a synthetic one."""
        calls = list(self._pending)
        self._pending.clear()
        results = [
            Block(
                0, "tool_result", None, {"tool_use_id": call, "content": CANCELLED_RESULT, "is_error": True}
            )
            for call in calls
        ]
        for result in results:
            self._append("user", result)

    def finish(self) -> tuple[Message, ...]:
        self._answer_pending()
        for call in self._provider_calls.values():
            for _, blocks in self._messages:
                if call in blocks:
                    blocks.remove(call)
        merged: list[tuple[Role, list[Block]]] = []
        for role, blocks in self._messages:
            if not blocks:
                continue
            if merged and merged[-1][0] == role:
                merged[-1][1].extend(blocks)
            else:
                merged.append((role, blocks))
        while merged and merged[-1][0] != "user":
            merged.pop()
        return tuple(Message(role, tuple(blocks)) for role, blocks in merged)


def _result_text(content: dict[str, Any]) -> str:
    given = content.get("content")
    return given if isinstance(given, str) else ""
