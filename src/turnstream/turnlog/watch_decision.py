"""The next thing to do for a watcher: send, read from the store, wait, or end.

`decide` reads the log and the watcher's position, and takes the first rule that applies:

    1. the position has a lost generation      send a notice if it is above the fence; then catch up
    2. the ring covers the position            send all later events in one piece
    3. a block_reset came since                send it
    4. the store has more                      read a page of closed blocks and durable events,
                                               or a piece of a large block
    5. a block is open                         send it from memory, in pieces;
                                               or its rest if the sent part is known

The id of a frame is the last event that is complete with that frame. `decide` awaits nothing, and changes
neither the log nor the position. So no event is lost between catch-up and live.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import TurnStart
from turnstream.turnlog.catch_up import ArchivePage, LargeBlock, Parts, next_piece
from turnstream.turnlog.position import ALL, NOTHING, Batch, WatchPosition
from turnstream.turnlog.shared_frames import LARGE_FRAME, shared_frames
from turnstream.turnlog.view import LogView


class SendFrames(NamedTuple):
    """Send the batch. A batch without frames only moves the position.

    `is_live`: the batch comes from the ring.
    """

    batch: Batch
    is_live: bool = False


class ReadPage(NamedTuple):
    """Read the stored rows after the position, up to `horizon`. `page_sent` makes the frames."""

    position: WatchPosition
    horizon: int


class ReadPiece(NamedTuple):
    """Read the next part of a large block. `piece_sent` makes the frame."""

    position: WatchPosition
    block: LargeBlock


class CountSurvivors(NamedTuple):
    """Count the blocks that survived up to `fence`. `truncation_sent` makes the notice."""

    position: WatchPosition
    fence: int


class Pause(Enum):
    """Send nothing: wait until the log grows, or end because all events have been sent."""

    WAIT = "wait"
    END = "end"


Decision: TypeAlias = SendFrames | ReadPage | ReadPiece | CountSurvivors | Pause


def begin(log: LogView, after: Cursor | None = None, from_block: int = 0) -> WatchPosition:
    """Return the position for a client's cursor. None is the beginning.

    A client whose cursor is not one of this turn gets everything from the beginning. The start event resets
    the client.

    Args:
        from_block: The client has the blocks before this one.
    """
    if after is None:
        return WatchPosition(log.generation, 0, is_behind=True, next_block=from_block)
    if after.generation == log.generation and after.seq <= log.head:
        is_behind = not log.is_exact(after.seq)
        return WatchPosition(after.generation, after.seq, is_behind=is_behind, next_block=from_block)
    if log.fence_of(after.generation) is not None:
        return WatchPosition(after.generation, after.seq, next_block=from_block)
    return WatchPosition(log.generation, 0, is_behind=True)


def is_at_end(log: LogView, position: WatchPosition) -> bool:
    """Return True if the terminal event has been sent. Nothing follows."""
    terminal = log.terminal
    return terminal is not None and position.generation == log.generation and position.seq >= terminal[0]


def needs_catch_up(log: LogView, position: WatchPosition) -> bool:
    """Return True if the ring does not have all events after the position."""
    return position.is_behind or position.generation != log.generation or not log.covers(position.seq)


def decide(log: LogView, position: WatchPosition) -> Decision:
    """Return the next thing to do for a watcher at `position`."""
    if position.generation != log.generation:
        return _move_generation(log, position)
    if position.is_behind or not log.covers(position.seq):
        return _catch_up(log, position)
    if log.head > position.seq:
        return SendFrames(log.batch_after(position.seq), is_live=True)
    return Pause.WAIT if log.terminal is None and not log.closed else Pause.END


def _move_generation(log: LogView, position: WatchPosition) -> Decision:
    """Move a position to the current generation. Above the fence, count the blocks that survived first.

    The numbers of a lost generation are valid up to its fence. Above the fence the watcher has text that is
    gone.
    """
    fence = log.fence_of(position.generation)
    if fence is None:
        return _move(WatchPosition(log.generation, 0, is_behind=True))
    if position.seq > fence:
        return CountSurvivors(position, fence)
    return _move(WatchPosition(log.generation, position.seq, next_block=position.next_block))


def _catch_up(log: LogView, position: WatchPosition) -> Decision:
    if (first := log.start) is not None and position.seq < first[0]:
        return _begin_turn(log, position, *first)
    reset = log.reset_since(max(position.seq, position.reset_seq))
    if reset is not None:
        next_block = min(position.next_block, reset.block_index)
        after = replace(
            position, is_behind=True, reset_seq=log.head, next_block=next_block, large=None, place=None
        )
        return SendFrames(Batch(log.frame(position.seq, reset), after))
    if position.seq < log.stored_seq:
        if position.large is not None:
            return ReadPiece(position, position.large)
        return ReadPage(position, log.stored_seq)
    return _send_open_block(log, position)


def _begin_turn(log: LogView, position: WatchPosition, seq: int, start: TurnStart) -> Decision:
    """Send the turn's start, unless the client has blocks: a start event makes the client drop all blocks."""
    is_behind = seq < log.stored_seq or log.open_block is not None
    if position.next_block:
        return _move(replace(position, seq=seq, is_behind=is_behind))
    # The client has no blocks, so no reset concerns it.
    after = replace(position, seq=seq, is_behind=is_behind, reset_seq=log.head)

    return SendFrames(Batch(log.frame(seq, start), after))


def _send_open_block(log: LogView, position: WatchPosition) -> Decision:
    """Send more of the open block. If the watcher has all of it, or no block is open, return to the ring."""
    block, seq = log.open_block, position.seq
    if block is not None:
        if block.sequence != position.block_index or position.block_seq < log.content_since:
            unknown = replace(position, block_index=NOTHING, length=0, signature=0, contents=ALL)
            return SendFrames(log.rest_after(unknown))
        has_text = position.length == block.length and position.signature == block.signature_length
        if not has_text or position.contents != ALL:
            return SendFrames(log.rest_after(position))
        seq = max(seq, log.open_seq)  # only transient events were missed
    return _move(replace(position, seq=max(seq, log.first_seq - 1), is_behind=False))


def _move(position: WatchPosition) -> SendFrames:
    return SendFrames(Batch(b"", position))


def page_sent(read: ReadPage, page: ArchivePage) -> SendFrames:
    """Return the page's frames."""
    after = replace(
        read.position,
        seq=page.seq,
        is_behind=True,
        next_block=page.next_block,
        large=page.large,
        place=None,
    )
    return SendFrames(Batch(page.data, after, held=page.held))


def piece_sent(log: LogView, read: ReadPiece, parts: Parts | None) -> SendFrames:
    """Return the next piece of a closed block, without frames if the block was retracted meanwhile."""
    position, block = read
    if parts is None:
        return SendFrames(Batch(b"", replace(position, large=None, place=None)))
    event, place = next_piece(block, position.place, parts)
    if place == position.place:  # the block's end
        after = replace(
            position, seq=block.last_seq, next_block=block.block_index + 1, large=None, place=None
        )
        return SendFrames(Batch(log.frame(block.last_seq, event), after))
    after = replace(position, place=place)
    frame = log.frame(position.seq, event)
    if len(frame) <= LARGE_FRAME:
        return SendFrames(Batch(frame, after))
    key = (log.turn_id, block.row_id, position.place, position.seq)
    held = shared_frames.shared(key, frame)
    return SendFrames(Batch(held.data, after, held=held))


def truncation_sent(log: LogView, read: CountSurvivors, blocks_kept: int) -> SendFrames:
    """Return the notice that text of a lost owner is gone, with the first block that the client must drop."""
    next_block = min(read.position.next_block, blocks_kept)
    after = WatchPosition(log.generation, read.fence, next_block=next_block)
    return SendFrames(Batch(log.frame(read.fence, log.truncated_notice(blocks_kept)), after))
