"""The lease's arithmetic, on simulated clocks: a node stops before others may claim its turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnstream.nodes.lease
from turnstream.nodes.lease import MICROSECONDS, ConfirmedHeartbeat, Lease

LEASE = 10.0
HOUR = 3600.0


class Clock:
    """The true time. `offset`: the difference between it and the clock of the node that reads it now."""

    def __init__(self) -> None:
        self.time = self.offset = 0.0

    def __call__(self) -> float:
        return self.time + self.offset


class Beat(NamedTuple):
    """True times of a heartbeat."""

    sent: float
    stored: float
    received: float


class Claim(NamedTuple):
    """True times at which a claim is decided, and applied by the database."""

    at: float
    applied: float


class DatabaseClock(NamedTuple):
    """A clock that is set once, by `step` seconds."""

    at: float = inf
    step: float = 0.0

    def time(self, true: float) -> int:
        return int((true + (self.step if true >= self.at else 0.0)) * MICROSECONDS)


class Node:
    def __init__(self, clock: Clock, offset: float, beats: Sequence[Beat]) -> None:
        self._clock = clock
        self._offset = offset
        self.lease = Lease(LEASE)
        self.beats = beats

    def ask(self, at: float) -> Lease:
        """Return the lease after this node's clock was set to a true time."""
        self._clock.time, self._clock.offset = at, self._offset
        return self.lease

    def confirm(self, beat: Beat, database: DatabaseClock) -> None:
        """Confirm a heartbeat: its answer arrives."""
        sent, received = beat.sent + self._offset, beat.received + self._offset
        self.ask(beat.received).renew(ConfirmedHeartbeat(sent, received, database.time(beat.stored)))


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(turnstream.nodes.lease, "boot_seconds", clock)
        yield clock


def beats(pauses: Sequence[tuple[float, float, float]]) -> list[Beat]:
    """Return heartbeats in order. `pauses`: seconds before each of them is sent, stored and answered."""
    made: list[Beat] = []
    time = 100.0
    for before, storing, answering in pauses:
        sent = time + before
        made.append(Beat(sent, sent + storing, time := sent + storing + answering))
    return made


def regular(count: int) -> list[Beat]:
    return beats([(LEASE / 5, 0.01, 0.01)] * count)


def claims(owner: Node, other: Node, database: DatabaseClock, tried: Sequence[Claim]) -> list[Claim]:
    """Run both nodes, and return the other node's claims of the owner's turns.

    Fail if the owner would still show its turns at one of the claims.
    """
    steps: list[tuple[float, int, object]] = []
    for node in (owner, other):
        steps += [(beat.received, 1, (node, beat)) for beat in node.beats]
    steps += [(beat.stored, 0, beat) for beat in owner.beats]
    steps += [(claim.at, 2, claim) for claim in tried]
    made: list[Claim] = []
    for at, _, step in sorted(steps, key=lambda step: step[:2]):
        if isinstance(step, tuple) and isinstance(step[0], Node):
            node, beat = step
            node.confirm(beat, database)
        elif isinstance(step, Claim):
            window = other.ask(at).claim_window()
            now = database.time(step.applied)
            rows = [database.time(beat.stored) for beat in owner.beats if beat.stored <= step.applied]
            is_lapsed = bool(rows) and rows[-1] + LEASE * MICROSECONDS < now
            if window is not None and window.not_before <= now <= window.not_after and is_lapsed:
                assert not owner.ask(step.applied).is_valid, "the owner still shows its turns"
                made.append(step)
    return made


def every(seconds: float, until: float) -> list[Claim]:
    return [Claim(100 + n * seconds, 100.01 + n * seconds) for n in range(int((until - 100) / seconds))]


OFFSETS = st.sampled_from([0.0, HOUR, -HOUR])
BEATS = st.lists(
    st.tuples(st.floats(0, 1.5 * LEASE), st.floats(0, LEASE / 2), st.floats(0, LEASE / 2)),
    min_size=1,
    max_size=30,
).map(beats)
STEPS = st.builds(DatabaseClock, st.floats(90, 300), st.sampled_from([HOUR, -HOUR, 0.0]))


@given(BEATS, BEATS, OFFSETS, OFFSETS, STEPS)
def test_no_claim_comes_while_the_owner_shows_its_turns(
    clock: Clock,
    owner_beats: list[Beat],
    other_beats: list[Beat],
    owner_offset: float,
    other_offset: float,
    database: DatabaseClock,
) -> None:
    """Heartbeats are late or lost, the nodes' clocks are an hour off, and the database's clock is set."""
    owner, other = Node(clock, owner_offset, owner_beats), Node(clock, other_offset, other_beats)
    claims(owner, other, database, every(0.37, 400))


@given(OFFSETS, OFFSETS, STEPS, st.integers(5, 40))
def test_a_living_node_is_never_claimed(
    clock: Clock, owner_offset: float, other_offset: float, database: DatabaseClock, extra: int
) -> None:
    owner = Node(clock, owner_offset, regular(100))
    other = Node(clock, other_offset, regular(60 + extra))
    assert claims(owner, other, database, every(0.41, 290)) == []


@given(OFFSETS, OFFSETS, st.integers(8, 60))
def test_a_dead_node_is_claimed_soon_after_its_lease(
    clock: Clock, owner_offset: float, other_offset: float, count: int
) -> None:
    owner, other = Node(clock, owner_offset, regular(count)), Node(clock, other_offset, regular(90))
    made = claims(owner, other, DatabaseClock(), every(0.1, 270))
    died = owner.beats[-1].stored
    assert made[0].applied - died < LEASE + 0.2
    assert made[0].applied - died > LEASE


def test_a_node_claims_only_after_a_full_lease_of_its_own(clock: Clock) -> None:
    owner, other = (
        Node(clock, 0.0, beats([(0.0, 0.01, 0.01)])),
        Node(clock, HOUR, beats([(50.0, 0.01, 0.01), *([(2.0, 0.01, 0.01)] * 9)])),
    )
    made = claims(owner, other, DatabaseClock(), every(0.1, 168))
    assert made[0].at - other.beats[0].received >= LEASE, "the owner lapsed long before"


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_databases_clock_begins_the_wait_anew(clock: Clock, step: float) -> None:
    node = Node(clock, 0.0, regular(30))
    database = DatabaseClock(node.beats[14].stored, step)
    for beat in node.beats[:14]:
        node.confirm(beat, database)
    assert node.lease.claim_window() is not None
    node.confirm(node.beats[14], database)
    assert node.lease.claim_window() is None
    for beat in node.beats[15:]:
        node.confirm(beat, database)
    assert node.lease.claim_window() is not None
    assert node.lease.is_valid, "its own turns go on all the time"


def test_a_lapse_of_the_node_itself_begins_the_wait_anew(clock: Clock) -> None:
    """The answer of its heartbeat comes after its deadline."""
    node = Node(clock, 0.0, [*regular(14), Beat(130.0, 139.0, 139.1)])
    for beat in node.beats[:14]:
        node.confirm(beat, DatabaseClock())
    assert node.lease.claim_window() is not None
    node.confirm(node.beats[14], DatabaseClock())
    assert not node.lease.is_valid, "the heartbeat was sent too long ago"
    assert node.lease.claim_window() is None
