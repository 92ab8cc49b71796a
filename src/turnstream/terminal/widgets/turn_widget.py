"""One turn of the transcript: its head, its blocks, its notes, and its end."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from turnstream.core.blocks import Block
from turnstream.terminal.block_summary import summary_of
from turnstream.terminal.printable import printable, printable_line
from turnstream.terminal.think_text import ThinkText, ThoughtPiece
from turnstream.terminal.transcript_turn import GrowingBlock, TranscriptTurn
from turnstream.terminal.widgets.sectioned_text import SectionedText
from turnstream.terminal.widgets.tall import TallWidget
from turnstream.terminal.widgets.thinking_view import ThinkingView
from turnstream.terminal.widgets.tool_card import CardState, ToolCard

_EXPECTED_ENDS = frozenset({None, "end_turn", "stop_sequence", "tool_use"})
QUESTION_LENGTH = 4_000
"""Characters of a question that are shown."""
QUESTION_LINES = 40
_QUIET_NOTES = frozenset({"other_candidates", "other_choices", "stage"})


class TextBlockWidget(TallWidget):
    """A block of text or thinking. Thinking between tags in the text is shown apart."""

    DEFAULT_CSS = "TextBlockWidget { height: auto; layout: vertical; }"

    def __init__(self, block: GrowingBlock, *, folded: bool) -> None:
        super().__init__()
        self.version = block.version
        self._thinks = block.kind == "thinking"
        self.folded = folded
        """True if further thinking is folded."""
        self._split = ThinkText()
        self._last: SectionedText | ThinkingView | None = None
        self._stopped = False

    async def draw(self, block: GrowingBlock) -> None:
        """Draw the growth of the block."""
        text = block.take_text()
        said = (
            ([ThoughtPiece(text, thinking=True)] if text else []) if self._thinks else self._split.feed(text)
        )
        if block.stopped and not self._stopped:
            self._stopped = True
            said += [] if self._thinks else self._split.close()
        for piece in said:
            await (await self._view_of(piece)).append(piece.text)
        if self._stopped and isinstance(self._last, ThinkingView):
            self._last.end()

    def texts(self) -> list[SectionedText]:
        """Return the texts of the block, those of opened thinking too."""
        texts = [child.text if isinstance(child, ThinkingView) else child for child in self.children]
        return [text for text in texts if isinstance(text, SectionedText)]

    async def _view_of(self, piece: ThoughtPiece) -> SectionedText | ThinkingView:
        view = self._last
        if view is None or isinstance(view, ThinkingView) != piece.thinking:
            if isinstance(view, ThinkingView):
                view.end()
            view = ThinkingView(folded=self.folded) if piece.thinking else SectionedText()
            self._last = view
            await self.mount(view)
        return view


class TurnHeading(Static):
    """The name above a turn, and the signs that lead to its other branches."""

    def __init__(self, state: TranscriptTurn) -> None:
        super().__init__("", classes="head")
        self._state = state

    def action_previous_branch(self) -> None:
        """Ask for the branch before this one."""
        self.post_message(TurnWidget.BranchAsked(self._state, -1))

    def action_next_branch(self) -> None:
        """Ask for the branch after this one."""
        self.post_message(TurnWidget.BranchAsked(self._state, 1))


class TurnWidget(TallWidget):
    """A turn. `draw` shows what has changed in its state."""

    DEFAULT_CSS = """
    TurnWidget { height: auto; layout: vertical; padding: 0 1; }
    TurnWidget > .head { height: auto; text-style: bold; color: $text-accent; }
    TurnWidget.user { background: $boost; margin: 0 0 1 0; }
    TurnWidget.user > .head { color: $text-primary; }
    TurnWidget > .notes { height: auto; color: $text-muted; display: none; }
    TurnWidget > .notes.any { display: block; }
    TurnWidget > .end { height: auto; color: $text-error; display: none; }
    TurnWidget > .end.any { display: block; }
    TurnWidget > .question { height: auto; }
    TurnWidget > .line { height: auto; color: $text-muted; }
    """

    class BranchAsked(Message):
        """The user asks for another answer. `step`: -1 for the one before, 1 for the next."""

        def __init__(self, state: TranscriptTurn, step: int) -> None:
            super().__init__()
            self.state = state
            self.step = step

    def __init__(self, state: TranscriptTurn, *, folded: bool) -> None:
        super().__init__(classes=state.role)
        self.state = state
        self.folded = folded
        self._views: dict[int, TextBlockWidget | ToolCard | Static] = {}
        self._head = TurnHeading(state)
        self._notes = Static("", classes="notes")
        self._end = Static("", classes="end", markup=False)
        self._drawn_ids: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._notes
        yield self._end

    async def draw(self) -> None:
        """Draw what has changed since the last call."""
        state = self.state
        for index in sorted(state.take_changes()):
            await self._draw_block(index)
        marks = (
            state.turn_id, state.model, state.status, len(state.siblings), tuple(state.notes), state.failure,
            len(state.sources), state.stop_reason,
        )  # fmt: skip
        if marks != self._drawn_ids:
            self._drawn_ids = marks
            self._draw_frame()

    def texts(self) -> list[SectionedText]:
        """Return the texts of the turn."""
        views = [view for view in self._views.values() if isinstance(view, TextBlockWidget)]
        return [text for view in views for text in view.texts()]

    def fold_new(self, *, folded: bool) -> None:
        """Fold or open later thinking."""
        self.folded = folded
        for view in self._views.values():
            if isinstance(view, TextBlockWidget):
                view.folded = folded

    def thinking_views(self) -> list[ThinkingView]:
        """Return the views of all thinking in the turn."""
        return list(self.query(ThinkingView))

    async def _draw_block(self, index: int) -> None:
        block = self.state.blocks.get(index)
        view = self._views.get(index)
        if view is not None and (
            block is None or (isinstance(view, TextBlockWidget) and view.version != block.version)
        ):
            del self._views[index]
            await view.remove()
            view = None
        if block is None:
            return
        if self.state.role == "user" and block.kind == "text":
            await self._draw_question(index, block)
        elif block.kind in ("text", "thinking"):
            if view is None:
                view = await self._place(index, TextBlockWidget(block, folded=self.folded))
            assert isinstance(view, TextBlockWidget)
            await view.draw(block)
        elif block.kind == "tool_use":
            block.take_text()
            if view is None:
                view = await self._place(index, ToolCard())
            assert isinstance(view, ToolCard)
            view.show(self._call_state(index))
        elif block.kind == "tool_result" and (call := self._call_of(block)) is not None:
            block.take_text()
            if block.stopped:
                await self._draw_block(call)
        else:
            await self._draw_line(index, block)

    async def _draw_question(self, index: int, block: GrowingBlock) -> None:
        """Draw what the user wrote as it is, without Markdown."""
        text = printable(block.take_text()) or " "
        lines = text.splitlines()
        if len(text) > QUESTION_LENGTH or len(lines) > QUESTION_LINES:
            text = "\n".join(lines[:QUESTION_LINES])[:QUESTION_LENGTH] + f"\n… {len(text):,} characters"
        view = self._views.get(index) or await self._place(
            index, Static("", classes="question", markup=False)
        )
        assert isinstance(view, Static)
        view.update(Content(text))

    async def _draw_line(self, index: int, block: GrowingBlock) -> None:
        block.take_text()
        folded = self.state.block(index)
        summary = summary_of(folded) if folded is not None and block.stopped else None
        if summary is None:
            return
        view = self._views.get(index)
        if view is None:
            view = await self._place(index, Static("", classes="line", markup=False))
        assert isinstance(view, Static)
        view.update(Content(printable(summary)))

    async def _place(
        self, index: int, view: TextBlockWidget | ToolCard | Static
    ) -> TextBlockWidget | ToolCard | Static:
        after = [known for known in self._views if known < index]
        await self.mount(view, after=self._views[max(after)] if after else self._head)
        self._views[index] = view
        return view

    def _call_of(self, result: GrowingBlock) -> int | None:
        wanted = result.content.get("tool_use_id")
        for block in self.state.blocks.values():
            if block.kind == "tool_use" and block.content.get("tool_use_id") == wanted:
                return block.index
        return None

    def _call_state(self, index: int) -> CardState:
        state = self.state
        block = state.block(index)
        content = {} if block is None else block.content or {}
        call_id = str(content.get("tool_use_id") or "")
        return CardState(
            str(content.get("tool_name") or ""),
            str(content.get("input_json") or (block.text_content if block is not None else "") or ""),
            state.progress.get(call_id, ""),
            any(data["tool_use_id"] == call_id for data in state.fold.approvals.values()),
            self._result_of(call_id),
            state.ended,
        )

    def _result_of(self, call_id: str) -> Block | None:
        for block in self.state.blocks.values():
            if block.kind == "tool_result" and block.stopped:
                folded = self.state.block(block.index)
                if folded is not None and (folded.content or {}).get("tool_use_id") == call_id:
                    return folded
        return None

    def _draw_frame(self) -> None:
        state = self.state
        name = "You" if state.role == "user" else printable_line(state.model or "Answer")
        head = Content(name)
        if len(state.siblings) > 1 and state.turn_id in state.siblings:
            place = state.siblings.index(state.turn_id) + 1
            head += (
                Content.from_markup("  [@click=previous_branch]‹[/] ")
                + Content(f"{place}/{len(state.siblings)}")
                + Content.from_markup(" [@click=next_branch]›[/]")
            )
        self._head.update(head)
        lines = [f"· {printable_line(note.text)}" for note in state.notes if note.code not in _QUIET_NOTES]
        notes = Content("\n".join(lines))
        for link in state.sources.values():
            title = Content(printable_line(link.title))
            if link.url.startswith(("https://", "http://")):
                title = title.stylize(f"link={printable_line(link.url, 2000)!r} underline")
            notes = (
                Content("\n").join([notes, Content("source: ") + title])
                if notes
                else Content("source: ") + title
            )
        self._notes.update(notes)
        self._notes.set_class(bool(notes), "any")
        end = self._end_line()
        self._end.update(Content(end))
        self._end.set_class(bool(end), "any")

    def _end_line(self) -> str:
        state = self.state
        if state.failure is not None:
            return f"✗ {printable_line(state.failure, 500)}"
        if state.status == "cancelled":
            return "■ stopped"
        if state.ended and state.role == "assistant" and state.stop_reason not in _EXPECTED_ENDS:
            return f"ended early: {printable_line(str(state.stop_reason))}"
        return ""
