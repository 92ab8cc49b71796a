"""Cursors of a stream with the events of many turns.

    5f3a21c0-64a1f0e2b9c40.3c1f0a-2b.9d02-1f.1e8480:1342357987-42
    │        │             │         │       └ this event: its turn, and its own cursor in that turn
    │        │             └ the other turns that were running, each with the last seq that was sent
    │        └ the moment of the last announcement that was sent
    └ the stream that the cursor belongs to

The moments of an owner's turns are distinct, so a turn is named by its age: the microseconds from its start
to the cursor's moment. Numbers are hexadecimal, except those of the turn's own cursor. `-generation` follows
a seq if the turn was taken over.

A moment is one transaction, which may change a chat and also begin a turn in it. The chat is announced first.
`-1` follows the moment if the turn was not announced yet. Moment 0 comes before all others: a client whose
connection is cut before it has all running turns begins again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from zlib import crc32

from turnstream.limits import MAX_EVENTS_CURSOR

MAX_TURNS: Final = 64
"""Turns that one stream follows at a time, and a cursor names."""
_HEX = "(0|[1-9a-f][0-9a-f]{0,13})"
_HEAD = re.compile(f"{_HEX}-{_HEX}(-1)?", re.ASCII)
_OTHER = re.compile(f"{_HEX}-{_HEX}(?:-{_HEX})?", re.ASCII)
_OWN = re.compile(f"{_HEX}:(0|[1-9][0-9]{{0,11}})-(0|[1-9][0-9]{{0,15}})", re.ASCII)


class TurnPosition(NamedTuple):
    """The position of a watcher in one of the turns.

    Attributes:
        moment: Time at which the turn began, in microseconds since the epoch.
        seq: The last event that was sent, or 0.
        generation: The generation of `seq`. None: the turn's first one.
    """

    moment: int
    seq: int
    generation: int | None = None


class EventsCursor(NamedTuple):
    """The position of a watcher of many turns.

    Attributes:
        scope: See `scope_of`.
        moment: All announcements up to this time were sent.
        turns: The running turns.
        is_half: The turn that begins at `moment` was not announced.
    """

    scope: int
    moment: int
    turns: tuple[TurnPosition, ...] = ()
    is_half: bool = False


def scope_of(owner: str, chat_id: str | None) -> int:
    """Return a hash that names a stream, so that another stream's cursor is detected."""
    return crc32(f"{owner}\0{chat_id or ''}".encode("utf-8", "surrogatepass"))


def cursor_head(scope: int, moment: int, *, is_half: bool = False) -> bytes:
    """Return the beginning of all cursors with this moment. See `EventsCursor`."""
    return b"%x-%x-1" % (scope, moment) if is_half else b"%x-%x" % (scope, moment)


def turn_entry(age: int, seq: int, generation: int | None) -> bytes:
    """Return the entry of a running turn, with the dot before it."""
    return b".%x-%x" % (age, seq) if generation is None else b".%x-%x-%x" % (age, seq, generation)


def own_prefix(age: int) -> bytes:
    """Return the bytes of a cursor between the entries of other turns and the event's own cursor."""
    return b".%x:" % age


def parse_events_cursor(text: str) -> EventsCursor | None:
    """Return `text` as a cursor, or None if it is not one."""
    head, *entries = text[: MAX_EVENTS_CURSOR + 1].split(".")
    match = _HEAD.fullmatch(head)
    if match is None or len(text) > MAX_EVENTS_CURSOR or len(entries) > MAX_TURNS:
        return None
    moment = int(match[2], 16)
    turns = tuple(_positions(moment, entries))
    if len(turns) != len(entries) or len({turn.moment for turn in turns}) != len(turns):
        return None
    return EventsCursor(int(match[1], 16), moment, turns, is_half=match[3] is not None)


def _positions(moment: int, entries: Iterable[str]) -> Iterable[TurnPosition]:
    for entry in entries:
        if (match := _OTHER.fullmatch(entry)) is not None:
            generation = None if match[3] is None else int(match[3], 16)
            yield TurnPosition(moment - int(match[1], 16), int(match[2], 16), generation)
        elif (match := _OWN.fullmatch(entry)) is not None:
            yield TurnPosition(moment - int(match[1], 16), int(match[3]), int(match[2]))
