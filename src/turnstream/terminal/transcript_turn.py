"""The state of one turn in a window. It does no I/O: native events in, changes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from turnstream.client.answers import PathTurn
from turnstream.core.blocks import Block
from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold

MOST_NOTES = 50
"""Notices, sources and stages of a turn that are kept, each."""
PROGRESS_LENGTH = 2_000
"""Characters of a running tool's progress that are kept."""

Activity: TypeAlias = Literal["streaming", "thinking", "tool", "waiting", "retrying", "ended"]

_RECOVERIES = frozenset({"attempt_failed", "fallback", "continued", "restarted", "recovered", "moved"})
"""Codes of notices before another call, or another server, continues the answer."""


class GrowingBlock:
    """A block of a turn, and the growth that is not drawn yet.

    Attributes:
        version: Raised when the block's text is replaced: it must be drawn anew.
        stopped: True if the block does not grow any more.
    """

    __slots__ = ("content", "index", "kind", "pending", "stopped", "version")

    def __init__(self, index: int, kind: str, content: Mapping[str, Any], version: int) -> None:
        self.index = index
        self.kind = kind
        self.content = dict(content)
        self.version = version
        self.stopped = False
        self.pending: list[str] = []

    def take_text(self) -> str:
        """Return the text that is not drawn yet, once."""
        text = "".join(self.pending)
        self.pending.clear()
        return text


class Note(NamedTuple):
    """A line about the turn: a retry, a fallback, a stage, or another notice. `code`: for programs."""

    code: str
    text: str


class SourceLink(NamedTuple):
    """A source that the answer is based on."""

    url: str
    title: str


class TranscriptTurn:
    """A turn of the shown branch.

    Args:
        turn_id: Id of the turn. Empty for a message that is being sent.
        role: `user` or `assistant`.
    """

    def __init__(self, turn_id: str, role: str) -> None:
        self.turn_id = turn_id
        self.role = role
        self.prev_turn_id: str | None = None
        self.siblings: list[str] = []
        self.model: str | None = None
        self.status: str = "pending" if role == "assistant" else "complete"
        self.stop_reason: str | None = None
        self.failure: str | None = None
        self.cost: str | None = None
        self.unpriced = False
        self.output_tokens: int | None = None
        self.fold = NativeFold()
        self.blocks: dict[int, GrowingBlock] = {}
        self.notes: deque[Note] = deque(maxlen=MOST_NOTES)
        self.sources: dict[str, SourceLink] = {}
        self.progress: dict[str, str] = {}
        self.stage: Note | None = None
        self.recovery: Note | None = None
        """The notice of a retry that has no output yet, or None."""
        self.characters = 0
        """Characters of text, thinking and arguments that have arrived live."""
        self.changed: set[int] = set()
        """Indexes of blocks that must be drawn."""
        self.pending = 0
        """Characters that are not drawn yet."""
        self._version = 0
        self._current: int | None = None

    @property
    def ended(self) -> bool:
        return self.role != "assistant" or self.status in ("complete", "error", "cancelled")

    @property
    def activity(self) -> Activity:
        """State of the turn: its last block decides while it runs."""
        if self.ended:
            return "ended"
        if self.fold.approvals or self.status == "waiting":
            return "waiting"
        if self.recovery is not None:
            return "retrying"
        block = self.blocks.get(self._current) if self._current is not None else None
        if block is None:
            return "streaming"
        if block.kind == "thinking" and not block.stopped:
            return "thinking"
        return "tool" if block.kind == "tool_use" and block.stopped else "streaming"

    @property
    def tool_name(self) -> str:
        """Name of the last tool call. Empty if there is none."""
        calls = [block for block in self.blocks.values() if block.kind == "tool_use"]
        return str(calls[-1].content.get("tool_name") or "") if calls else ""

    def text(self) -> str:
        """Return the text of all text blocks."""
        texts = (block.text_content or "" for block in self.fold.blocks if block.block_type == "text")
        return "\n\n".join(text for text in texts if text)

    def block(self, index: int) -> Block | None:
        """Return the folded block at `index`."""
        return self.fold.block(index)

    def take_changes(self) -> set[int]:
        """Return the indexes of blocks that changed since the last call."""
        changed, self.changed = self.changed, set()
        self.pending = 0
        return changed

    def redraw(self) -> None:
        """Let the whole turn be drawn again, by another view."""
        for block in self.blocks.values():
            folded = self.fold.block(block.index)
            block.pending = [folded.text_content or ""] if folded is not None else []
        self.changed.update(self.blocks)

    def feed(self, name: str, data: Mapping[str, Any]) -> None:
        """Fold one event of the turn. Raises KeyError, TypeError or ValueError if it is not valid."""
        self.fold.feed(name, data)
        match name:
            case "block_delta":
                self._grow(data)
            case "block_start":
                self._open(data)
            case "block_stop":
                self._stop(data["block_index"])
            case "block_catchup":
                self._catch_up(data)
            case "block_reset":
                self._drop_from(data["block_index"])
            case "turn_start":
                self._begin(data)
            case "step_start":
                self._note_stage(data)
            case "tool_progress":
                self._note_progress(data)
            case "source":
                self._note_source(data)
            case "usage":
                self._account(data)
            case "notice":
                self._notice(data)
            case "approval_request":
                self.status = "waiting"
                self._redraw_call(data["tool_use_id"])
            case "approval_response":
                self.status = "waiting" if self.fold.approvals else "streaming"
                self._redraw_call(data["tool_use_id"])
            case _ if name in TERMINAL_NAMES:
                self._end(name, data)
            case _:
                pass

    def take_stored(self, stored: PathTurn) -> None:
        """Take the state that the server has stored. Notes that it does not store stay, such as stages."""
        for row in stored.blocks:
            self.feed(
                "block_catchup",
                {
                    "block_index": row.sequence,
                    "block_type": row.block_type,
                    "complete": True,
                    "accumulated_text": row.text_content,
                    "content": row.content,
                    "partial": row.partial,
                },
            )
        self.feed(
            "block_reset", {"block_index": 1 + max((row.sequence for row in stored.blocks), default=-1)}
        )
        self.characters = 0
        self.model, self.status, self.stop_reason = stored.model, stored.status, stored.stop_reason
        self.cost, self.unpriced, self.output_tokens = stored.cost, stored.unpriced, stored.output_tokens
        self.failure = None if stored.error is None else f"{stored.error.message} ({stored.error.code})"
        self.fold.approvals = {
            approval.approval_id: {
                "approval_id": approval.approval_id,
                "tool_use_id": approval.tool_use_id,
                "tool_name": approval.tool_name,
                "expires_at": approval.expires_at,
            }
            for approval in stored.approvals
        }
        for event in stored.events:
            if event["type"] == "source":
                self._note_source(event)
        notices = [
            Note(event["code"], event["message"]) for event in stored.events if event["type"] == "notice"
        ]
        codes = {notice.code for notice in notices}
        unstored = [note for note in self.notes if note.code not in codes]
        self.notes = deque([*unstored, *notices], MOST_NOTES)

    def _begin(self, data: Mapping[str, Any]) -> None:
        self.model = data.get("model") or self.model
        self.status, self.failure = "streaming", None
        self.characters = 0
        lost = [note for note in self.notes if note.code == "truncated"]
        self.notes.clear()
        self.notes.extend(lost)  # if all shown text is lost, the turn is sent again from its start
        self.sources.clear()
        self.progress.clear()
        self.stage = self.recovery = None
        self._drop_from(0)

    def _open(self, data: Mapping[str, Any]) -> GrowingBlock:
        index = data["block_index"]
        self._version += 1
        block = GrowingBlock(index, data["block_type"], data.get("content") or {}, self._version)
        self.blocks[index] = block
        self.recovery = None
        self._current = index
        self.changed.add(index)
        if self.status == "pending":
            self.status = "streaming"
        return block

    def _grow(self, data: Mapping[str, Any]) -> None:
        index = data["block_index"]
        block = self.blocks.get(index) or self._open(data)
        self.recovery = None
        for field, value in data["delta"].items():
            if field in ("text", "partial_json"):
                block.pending.append(value)
                self.characters += len(value)
                self.pending += len(value)
            elif field == "content":
                block.content.update(value)
        self.changed.add(index)

    def _stop(self, index: int) -> None:
        if (block := self.blocks.get(index)) is not None:
            block.stopped = True
            self.changed.add(index)
            if block.kind == "tool_result":
                self.progress.pop(str(block.content.get("tool_use_id")), None)

    def _catch_up(self, data: Mapping[str, Any]) -> None:
        block = self._open(data)
        text: str = data.get("accumulated_text") or data.get("input_partial") or ""
        block.pending.append(text)
        self.pending += len(text)
        block.stopped = data["complete"]

    def _drop_from(self, index: int) -> None:
        for later in [known for known in self.blocks if known >= index]:
            del self.blocks[later]
            self.changed.add(later)
        if self._current is not None and self._current >= index:
            self._current = max(self.blocks, default=None)

    def _note_stage(self, data: Mapping[str, Any]) -> None:
        if (stage := data.get("name")) is not None:
            progress = data.get("progress")
            share = "" if progress is None else f" ({round(100 * progress)} %)"
            self.stage = Note("stage", f"{stage}{share}")
            self.notes.append(Note("stage", f"stage {stage}{share}"))

    def _note_progress(self, data: Mapping[str, Any]) -> None:
        call = data["tool_use_id"]
        self.progress[call] = (self.progress.get(call, "") + data["text"] + "\n")[-PROGRESS_LENGTH:]
        self._redraw_call(call)

    def _note_source(self, data: Mapping[str, Any]) -> None:
        if len(self.sources) < MOST_NOTES:
            url = str(data.get("url") or "")
            self.sources[data["source_id"]] = SourceLink(
                url, str(data.get("title") or url or data["source_id"])
            )

    def _notice(self, data: Mapping[str, Any]) -> None:
        if data["code"] == "truncated":
            self._drop_from(data.get("block_index") or 0)
        if data.get("model"):
            self.model = data["model"]
        note = Note(data["code"], data["message"])
        self.notes.append(note)
        if note.code in _RECOVERIES:
            self.recovery = note

    def _account(self, data: Mapping[str, Any]) -> None:
        usage: Mapping[str, Any] = data.get("usage") or {}
        self.output_tokens = usage.get("output_tokens", self.output_tokens)
        self.cost = data.get("cost", self.cost)
        self.unpriced = data.get("unpriced", self.unpriced)

    def _end(self, name: str, data: Mapping[str, Any]) -> None:
        self.status = data["status"]
        self.stop_reason = data.get("stop_reason")
        self._account(data)
        if name == "turn_error":
            self.failure = f"{data['error']} ({data['code']})"
        for block in self.blocks.values():
            if not block.stopped:
                block.stopped = True
                self.changed.add(block.index)
        self.changed.update(block.index for block in self.blocks.values() if block.kind == "tool_use")

    def _redraw_call(self, tool_use_id: str) -> None:
        for block in self.blocks.values():
            if block.kind == "tool_use" and block.content.get("tool_use_id") == tool_use_id:
                self.changed.add(block.index)


def sent_question(blocks: Sequence[Mapping[str, Any]]) -> TranscriptTurn:
    """Return the state of a question that the server does not have yet.

    Args:
        blocks: Blocks of the question, as a request has them.
    """
    question = TranscriptTurn("", "user")
    for index, block in enumerate(blocks):
        text = block.get("text_content")
        event = {"block_index": index, "block_type": block["block_type"], "complete": True}
        question.feed("block_catchup", event | {"accumulated_text": text, "content": block.get("content")})
    return question


def markdown_of(turns: Sequence[TranscriptTurn], title: str | None) -> str:
    """Return turns as one Markdown document."""
    parts = [f"# {title}"] if title else []
    for turn in turns:
        head = "You" if turn.role == "user" else turn.model or "Answer"
        parts.append(f"## {head}\n\n{turn.text()}")
    return "\n\n".join(parts) + "\n"
