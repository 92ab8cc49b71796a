"""The tree of a chat's turns: siblings, and the one path through it that is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Node(NamedTuple):
    """A turn in the tree; `previous` is None for one that begins the chat."""

    turn_id: str
    previous: str | None


class Branches:
    """The turns of one chat, given in the order of their making. A turn that follows none of them begins the chat."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        given = dict(nodes)
        self._previous = {
            turn_id: previous if previous in given else None for turn_id, previous in given.items()
        }
        self._children: dict[str | None, list[str]] = {}
        for turn_id, previous in self._previous.items():
            self._children.setdefault(previous, []).append(turn_id)

    @property
    def turn_ids(self) -> list[str]:
        """Ids of all turns, in the order of their making."""
        return list(self._previous)

    def siblings(self, turn_id: str) -> list[str]:
        """The turns that follow what this one follows, itself among them, oldest first; none for an unknown turn."""
        if turn_id not in self._previous:
            return []
        return list(self._children[self._previous[turn_id]])

    def path(self, through: str | None) -> list[str]:
        """The turns from the chat's beginning through one turn, and on from there by the newest that follows, to the end of
        that branch. None, or a turn that is not there: through the newest of all beginnings."""
        if through not in self._previous:
            through = self._newest(None)
        before: dict[str, None] = {}
        turn_id = through
        while turn_id is not None and turn_id not in before:
            before[turn_id] = None
            turn_id = self._previous.get(turn_id)
        path = [*reversed(before)]
        following = self._newest(path[-1]) if path else None
        while following is not None and following not in before:
            before[following] = None
            path.append(following)
            following = self._newest(following)
        return path

    def _newest(self, previous: str | None) -> str | None:
        children = self._children.get(previous)
        return children[-1] if children else None
