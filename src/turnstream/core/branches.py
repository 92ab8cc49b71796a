"""The tree of a chat's turns: siblings, and the one path through the tree that is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Node(NamedTuple):
    """A turn in the tree. `previous` is None for a turn that begins the chat."""

    turn_id: str
    previous: str | None


class Branches:
    """The turns of one chat, given in the order of creation.

    A turn whose `previous` is unknown begins the chat.
    """

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
        """Ids of all turns, in the order of creation."""
        return list(self._previous)

    def siblings(self, turn_id: str) -> list[str]:
        """Return all turns with the same previous turn, `turn_id` included, oldest first.

        Empty for an unknown turn.
        """
        if turn_id not in self._previous:
            return []
        return list(self._children[self._previous[turn_id]])

    def path(self, through: str | None) -> list[str]:
        """Return the turns from the chat's beginning through one turn to the end of that branch.

        After `through`, each turn is followed by its newest successor. If `through` is None or unknown, the
        path begins with the newest first turn.
        """
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
