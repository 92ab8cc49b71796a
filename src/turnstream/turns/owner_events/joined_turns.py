"""The turns that one watcher follows over one connection, and the cursors of their events.

A cursor names the positions in all followed turns. While one turn sends, the bytes before its own cursor stay
the same. So they are made once, not per event, and the rest of a frame is shared with other watchers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from turnstream.core.cursor import first_generation
from turnstream.core.owner_events.cursor import cursor_head, own_prefix, turn_entry
from turnstream.store.announcements import TurnAnnouncement
from turnstream.turnlog.subscription import Subscription


class JoinedTurn:
    """One of the turns that a watcher follows.

    Args:
        announcement: The announcement of the turn's start.
        follower: Called with this turn after each append to its log.
    """

    __slots__ = ("_first_generation", "_follow", "chat_id", "entry", "moment", "subscription", "turn_id")

    def __init__(
        self,
        announcement: TurnAnnouncement,
        subscription: Subscription,
        follower: Callable[[JoinedTurn], None],
    ) -> None:
        self.turn_id = announcement.turn_id
        self.chat_id = announcement.chat_id
        self.moment = announcement.moment
        self.subscription = subscription
        self.entry = b""
        """The turn's part of cursors. It lags behind while the turn sends: see `JoinedTurns`."""
        self._first_generation = first_generation(announcement.turn_id)
        self._follow = lambda: follower(self)

    def attach(self) -> None:
        """Begin to call the follower."""
        self.subscription.log.add_follower(self._follow)

    def detach(self) -> None:
        """Stop calling the follower."""
        self.subscription.log.discard_follower(self._follow)

    def renew_entry(self, moment: int) -> None:
        """Set the turn's part of the cursors to the subscription's position at `moment`."""
        generation, seq = self.subscription.cursor
        taken_over = None if generation == self._first_generation else generation
        self.entry = turn_entry(moment - self.moment, seq, taken_over)


class JoinedTurns:
    """The turns that a watcher follows, and its position in the announcements.

    Attributes:
        scope: Hash that names the stream. See `scope_of`.
        moment: All announcements up to this time were sent.
        is_half: See `EventsCursor`.
    """

    def __init__(self, scope: int) -> None:
        self.scope = scope
        self.moment = 0
        self.is_half = False
        self._turns: dict[str, JoinedTurn] = {}
        self._sender: JoinedTurn | None = None
        """The turn that sent last. The entries of the other turns are up to date."""
        self._prefix = b""

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[JoinedTurn]:
        return iter(tuple(self._turns.values()))

    def __contains__(self, turn: JoinedTurn) -> bool:
        return self._turns.get(turn.turn_id) is turn

    def add(self, turn: JoinedTurn) -> None:
        """Follow a turn from its subscription's position on."""
        self._settle()
        turn.renew_entry(self.moment)
        turn.attach()
        self._turns[turn.turn_id] = turn

    def remove(self, turn: JoinedTurn) -> None:
        """Stop following a turn."""
        self._settle()
        turn.detach()
        del self._turns[turn.turn_id]

    def move_to(self, moment: int, *, is_half: bool = False) -> None:
        """Set the moment of the announcements. `is_half`: see `EventsCursor`."""
        self._settle()
        self.moment, self.is_half = moment, is_half
        for turn in self._turns.values():
            turn.renew_entry(moment)

    def cursor(self) -> bytes:
        """Return the cursor of all that was sent."""
        self._settle()
        entries = [turn.entry for turn in self._turns.values()]
        return b"".join((self._head, *entries))

    def prefix_of(self, turn: JoinedTurn) -> bytes:
        """Return the bytes of an id before the turn's own cursor.

        The caller sends frames of the turn next.
        """
        if self._sender is not turn:
            self._settle()
            entries = [other.entry for other in self._turns.values() if other is not turn]
            self._prefix = b"".join((self._head, *entries, own_prefix(self.moment - turn.moment)))
            self._sender = turn
        return self._prefix

    @property
    def _head(self) -> bytes:
        return cursor_head(self.scope, self.moment, is_half=self.is_half)

    def _settle(self) -> None:
        """Renew the entry of the turn that sent last."""
        if self._sender is not None:
            self._sender.renew_entry(self.moment)
            self._sender = None
