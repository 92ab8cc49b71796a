"""Fencing of writes. Only the executor of a turn's generation may write the turn, until the turn ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from turnstream.core.lifecycle import TERMINAL_STATUSES, TurnStatus
from turnstream.errors import Fenced, StaleGeneration, TurnGone
from turnstream.store.schema import turns

_IDS_PER_SELECT = 500
_STATES = select(turns.c.id, turns.c.generation, turns.c.status).where(
    turns.c.id.in_(bindparam("ids", expanding=True))
)
_SHARED_STATE = (
    select(turns.c.generation, turns.c.status)
    .where(turns.c.id == bindparam("turn_id"))
    .with_for_update(read=True)
)
_LOCK = select(turns.c.id).where(turns.c.id == bindparam("turn_id")).with_for_update(key_share=True)


class FenceState(NamedTuple):
    """The generation and status of a turn, which decide if an executor may write it."""

    generation: int
    status: TurnStatus


def turn_states(connection: Connection, turn_ids: Collection[str]) -> dict[str, FenceState]:
    states: dict[str, FenceState] = {}
    remaining: Iterator[str] = iter(turn_ids)
    while ids := list(islice(remaining, _IDS_PER_SELECT)):
        rows = connection.execute(_STATES, {"ids": ids})
        states.update((row.id, FenceState(row.generation, row.status)) for row in rows)
    return states


def refusal(state: FenceState | None, generation: int) -> Fenced | None:
    """Return the error for an executor of `generation` that may not write, or None if it may."""
    if state is None:
        return TurnGone("the turn does not exist any more")
    if state.generation != generation:
        return StaleGeneration("another executor has taken the turn over")
    if state.status in TERMINAL_STATUSES:
        return Fenced(f"the turn has ended: {state.status}")
    return None


def require_executor(connection: Connection, turn_id: str, generation: int) -> None:
    """Raise Fenced unless an executor of `generation` may write the turn.

    The turn's row stays locked for reading. So no other node takes the turn over before the commit, even if
    this process sleeps in the middle of its transaction.
    """
    row = connection.execute(_SHARED_STATE, {"turn_id": turn_id}).first()
    refused = refusal(None if row is None else FenceState(*row), generation)
    if refused is not None:
        raise refused


def lock_turn(connection: Connection, turn_id: str) -> None:
    """Wait until no other transaction writes the turn, and lock its row until the commit.

    Later statements see all that the other transactions have committed.
    """
    connection.execute(_LOCK, {"turn_id": turn_id})
