"""Who may write a turn: the executor of its generation, until the turn ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from turnstream.core.lifecycle import TERMINAL_STATUSES, TurnStatus
from turnstream.errors import Fenced, TurnGone
from turnstream.store.schema import turns

_IDS_PER_SELECT = 500
_STATES = select(turns.c.id, turns.c.generation, turns.c.status).where(
    turns.c.id.in_(bindparam("ids", expanding=True))
)


class FenceState(NamedTuple):
    """What decides over a write."""

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
    """Why an executor of `generation` may not write; None when it may."""
    if state is None:
        return TurnGone("the turn does not exist any more")
    if state.status in TERMINAL_STATUSES:
        return Fenced(f"the turn has ended: {state.status}")
    if state.generation != generation:
        return Fenced("another executor has taken the turn over")
    return None


def require_executor(connection: Connection, turn_id: str, generation: int) -> None:
    """Raises Fenced unless an executor of `generation` may write the turn."""
    refused = refusal(turn_states(connection, [turn_id]).get(turn_id), generation)
    if refused is not None:
        raise refused
