"""A turn as a stream of Responses (docs/reference/protocols.md).

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_…_0",…,"delta":"Hello","sequence_number":12}

The events of the wire's encoder hold whole texts at the end of each part, and all items at the end of the
response. So the state keeps the answer's text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import cast

from msgspec.structs import replace

from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.cursor import ResetRecord
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.open_block import TextChain, catchup_of
from turnstream.core.stream_events import (
    MessageStart,
    Metadata,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.openai_responses.response_fields import end_fields, identity_fields
from turnstream.dialects.openai_responses.returned_items import with_encrypted_content
from turnstream.dialects.openai_responses.server_calls import marked_content, with_result_text
from turnstream.dialects.openai_responses.stream_state import ATTEMPT_NUMBERS, ResponseState, end_number
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.dialects.provider_shaped.projection import BlockEvent, Projection, text_delta
from turnstream.dialects.repetition import RETRACTED, AppendingEncoder, RepetitionEncoder
from turnstream.store.base import BlockRecord, TurnRecord
from turnstream.turns.ending import terminal_event
from turnstream.wires.base import ToolDefinition
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder
from turnstream.wires.openai_responses.written_items import DELTA_TAIL
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_text, on_one_line

BLOCK_TYPES: tuple[BlockType, ...] = ("text", "thinking", "tool_use", "tool_result", "image", "provider")
_TEXT_FIELDS = frozenset({"text", "partial_json"})
HEARTBEAT = b": keep-alive\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class ResponsesEncoder(AppendingEncoder):
    """Encodes the events of one turn as a stream of Responses. Wrap it by `repeating`.

    Args:
        new_encoder: Makes the wire's encoder. It counts the characters of deltas.
        client_tools: Names of the tools that the client runs.
        starting_after: Number of the last event that the client has, or -1.
        seal: Seals signatures of thinking. None: they are shown as they are.

    Attributes:
        resets: Returns the retractions of the turn's blocks.
        divides: True to divide the deltas of a catch-up into single characters. Some clients drop the events
            up to a number themselves. Then they get each character once, for any division of the stream.
    """

    name = "openai-responses"

    def __init__(
        self,
        new_encoder: Callable[[], OpenAIResponsesEncoder],
        client_tools: Collection[str],
        *,
        starting_after: int = -1,
        seal: OriginSeal | None = None,
    ) -> None:
        self._new_encoder = new_encoder
        self._client_tools = frozenset(client_tools)
        self._projection = Projection(client_tools, BLOCK_TYPES, seal)
        self._starting_after = starting_after
        self.resets: Callable[[], Sequence[ResetRecord]] = tuple
        self.divides = False

    def begin(self) -> ResponseState:
        """Return the state before a turn's first event."""
        return ResponseState(sent=self._starting_after)

    def is_settled(self, state: object) -> bool:
        """Return False at the end of a catch-up, for `settle`. A waiting turn keeps its stream open."""
        return not cast(ResponseState, state).divides

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return no bytes. Deltas after the catch-up are not divided."""
        return b"", replace(cast(ResponseState, state), divides=False)

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the bytes of one event, and the state after it. See `DialectEncoder.encode`."""
        now = cast(ResponseState, state)
        if type(event) is BlockDelta:
            head = now.head
            if head is not None and event.field in _TEXT_FIELDS:
                return self._delta(now, seq, head, event.value)
        if now.is_over:
            return b"", state
        data, after = self._encode_rare(now, seq, event)
        return on_one_line(data), after

    @staticmethod
    def _delta(now: ResponseState, seq: int, head: bytes, text: str) -> tuple[bytes, ResponseState]:
        if not text:
            return b"", now
        number = now.number + len(text)
        after = ResponseState(
            encoder=now.encoder,
            block=now.block,
            head=head,
            text=TextChain(text) if now.text is None else now.text.plus(text),
            number=number,
            last_block=now.last_block,
            seq=seq,
        )
        return b"%b%b%b%d}\n\n" % (head, on_one_line(encode_text(text)), DELTA_TAIL, number - 1), after

    def _encode_rare(self, now: ResponseState, seq: int, event: TurnEvent) -> tuple[bytes, ResponseState]:
        match event:
            case TurnStart():
                return self._start(now, seq)
            case BlockStart() | BlockDelta() | BlockCatchup() | BlockStop():
                return self._show(now, seq, event)
            case TurnComplete() | TurnError() | TurnCancelled():
                return self._end(now, seq, event)
            case _:
                return b"", now

    def _start(self, now: ResponseState, seq: int) -> tuple[bytes, ResponseState]:
        if now.encoder is not None:
            return b"", now
        encoder = self._new_encoder()
        encoder.leave_out(now.sent)
        data = encoder.feed((MessageStart(),))
        return data, self._after(now, seq, encoder, divides=self.divides)

    def _show(self, now: ResponseState, seq: int, event: BlockEvent) -> tuple[bytes, ResponseState]:
        if now.encoder is None:
            return b"", now
        if isinstance(event, BlockStart | BlockCatchup):
            event = replace(event, content=self._content(event.block_type, event.content))
            if self._is_unsaid(now, seq):
                return self._retract(now, seq)
        elif isinstance(event, BlockDelta) and (event.block_type, event.field) == ("tool_result", "content"):
            event = replace(event, value=with_result_text(event.value))
        events, block = self._projection.of_block(now.block, event)
        if not events:
            return b"", replace(now, block=block)
        events = with_encrypted_content(event.block_type, events)
        encoder = self._caught_up(now)
        self._number_attempt(encoder, seq)
        if isinstance(event, BlockStop | BlockCatchup) and event.partial:
            data = self._cut(encoder, event.block_index, events)
        else:
            data = encoder.feed(_divided(events) if now.divides else events)
        shown = replace(now, block=block, last_block=max(now.last_block, event.block_index))
        return data, self._after(shown, seq, encoder, divides=now.divides)

    @staticmethod
    def _cut(encoder: OpenAIResponsesEncoder, index: int, events: list[StreamEvent]) -> bytes:
        *before, stop = events
        data = encoder.feed(before)
        encoder.cut(index)
        return data + encoder.feed((stop,))

    def _end(self, now: ResponseState, seq: int, event: Terminal) -> tuple[bytes, ResponseState]:
        if now.encoder is None:
            return b"", now  # the connection is cut: nothing of this answer can be shown
        if event is RETRACTED or self._is_unsaid(now, seq):
            return self._retract(now, seq)
        encoder = self._caught_up(now)
        if event.usage is not None:
            encoder.feed((Metadata(event.usage),))
        data = encoder.end(number=end_number(encoder.next_number), **end_fields(event))
        return data, ResponseState(seq=seq, is_over=True, last_block=now.last_block)

    def _retract(self, now: ResponseState, seq: int) -> tuple[bytes, ResponseState]:
        """End the stream, but not the response, with an error."""
        encoder = self._caught_up(now)
        encoder.number_from(max(end_number(encoder.next_number), now.sent + 1))
        data = encoder.fail({"code": RETRACTED.code, "message": RETRACTED.error, "param": None})
        return data, ResponseState(seq=seq, is_over=True, last_block=now.last_block)

    # -- attempts --------------------------------------------------------------------------------------------

    def repeats(self, state: object, seq: int) -> object | None:
        """Return the state from which the stream continues after a retraction, if the text is repeated.

        Return None if the client has text of which the turn's log knows nothing: a lost node showed it.
        """
        now = cast(ResponseState, state)
        if now.encoder is None:
            return state
        if self._is_unsaid(now, seq):
            return None
        encoder = self._caught_up(now)
        self._number_attempt(encoder, seq)
        return self._after(now, seq, encoder, divides=now.divides)

    def _is_unsaid(self, now: ResponseState, seq: int) -> bool:
        """Return True if the client has text at this position that was retracted before `seq`."""
        if now.sent < 0:
            return False
        attempt, position = divmod(now.sent, ATTEMPT_NUMBERS)
        return attempt < self._attempt(seq) and now.number % ATTEMPT_NUMBERS <= position

    def _attempt(self, seq: int) -> int:
        return sum(reset.seq <= seq for reset in self.resets())

    def _number_attempt(self, encoder: OpenAIResponsesEncoder, seq: int) -> None:
        attempt, number = self._attempt(seq), encoder.next_number
        if attempt > number // ATTEMPT_NUMBERS:
            encoder.number_from(attempt * ATTEMPT_NUMBERS + number % ATTEMPT_NUMBERS)

    # -- states ----------------------------------------------------------------------------------------------

    @staticmethod
    def _caught_up(now: ResponseState) -> OpenAIResponsesEncoder:
        """Return a fork of the encoder that has the deltas since its last event."""
        encoder = cast(OpenAIResponsesEncoder, now.encoder).fork()
        if now.text is not None and now.block is not None:
            encoder.feed((text_delta(now.block, now.text.text()),))
        return encoder

    @staticmethod
    def _after(
        now: ResponseState, seq: int, encoder: OpenAIResponsesEncoder, *, divides: bool
    ) -> ResponseState:
        block, number = now.block, encoder.next_number
        is_plain = block is not None and block.is_plain and not divides
        return ResponseState(
            encoder=encoder,
            block=block,
            head=encoder.delta_head(block.index) if is_plain and block is not None else None,
            number=number,
            last_block=now.last_block,
            seq=seq,
            sent=now.sent if number <= now.sent else -1,
            divides=divides,
        )

    def _content(self, block_type: BlockType, content: Content | None) -> Content | None:
        return marked_content(block_type, content, self._client_tools)


def _divided(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Return the events with each delta divided into deltas of one character."""
    divided: list[StreamEvent] = []
    for event in events:
        if isinstance(event, ToolInputDelta):
            divided += [ToolInputDelta(event.index, character) for character in event.partial_json]
        elif isinstance(event, TextDelta | ThinkingDelta):
            divided += [type(event)(event.index, character) for character in event.text]
        else:
            divided.append(event)
    return divided


def encoder_of(
    turn: TurnRecord, *, starting_after: int = -1, seal: OriginSeal | None = None
) -> ResponsesEncoder:
    """Return the encoder of a turn's stream. See `ResponsesEncoder`."""

    def new_encoder() -> OpenAIResponsesEncoder:
        return OpenAIResponsesEncoder(**identity_fields(turn), counts_text=True)

    return ResponsesEncoder(new_encoder, client_tools_of(turn), starting_after=starting_after, seal=seal)


def repeating(encoder: ResponsesEncoder) -> RepetitionEncoder:
    """Return the encoder for streams whose text may be retracted and repeated."""
    return RepetitionEncoder(encoder, encoder.repeats)


def client_tools_of(turn: TurnRecord) -> frozenset[str]:
    """Return the names of the tools that the client runs."""
    return frozenset(tool.name for tool in turn.tools or () if isinstance(tool, ToolDefinition))


def response_of(turn: TurnRecord, rows: Sequence[BlockRecord], seal: OriginSeal | None = None) -> JsonObject:
    """Return the response object of a turn, as the last event of its stream has it.

    Args:
        rows: The blocks that are stored.
        seal: See `ResponsesEncoder`.
    """
    encoder = OpenAIResponsesEncoder(**identity_fields(turn))
    show_blocks(encoder, [row.block for row in rows], client_tools_of(turn), seal)
    if turn.status not in TERMINAL_STATUSES:
        status = "queued" if turn.status == "pending" else "in_progress"
        return {**encoder.response, "status": status}
    completed = sum(not row.block.partial for row in rows)
    end = terminal_event(turn, total_blocks=len(rows), blocks_completed=completed)
    if end.usage is not None:
        encoder.feed((Metadata(end.usage),))
    return encoder.finish(**end_fields(end))


def show_blocks(
    encoder: OpenAIResponsesEncoder,
    blocks: Sequence[Block],
    client_tools: Collection[str],
    seal: OriginSeal | None = None,
) -> None:
    """Feed whole blocks to the wire's encoder, as a stream shows them."""
    projection = Projection(client_tools, BLOCK_TYPES, seal)
    for block in blocks:
        event = catchup_of(block)
        event = replace(event, content=marked_content(block.block_type, event.content, client_tools))
        events, _ = projection.of_block(None, event)
        if not events:
            continue
        *before, stop = with_encrypted_content(block.block_type, events)
        encoder.feed(before)
        if block.partial:
            encoder.cut(block.sequence)
        encoder.feed((stop,))
