"""Circuit breakers, in time that the test makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.providers.circuit import MAX_CIRCUITS, CircuitPolicy, Circuits

NAME = "acme/one"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuits(clock: Clock) -> Circuits:
    return Circuits(CircuitPolicy(failures=3, seconds=10.0), clock)


def fail(circuits: Circuits, times: int, name: str = NAME, owner: str | None = None) -> None:
    for _ in range(times):
        circuits.admit(name, owner)
        circuits.failed(name, owner)


@pytest.mark.requirement("J1")
def test_it_opens_after_so_many_failures_in_a_row(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, 2)
    circuits.succeeded(NAME)
    fail(circuits, 2)
    assert circuits.admit(NAME) == 0
    fail(circuits, 1)
    assert circuits.admit(NAME) == 10.0
    clock.now += 4
    assert circuits.closed_for(NAME) == 6.0
    assert circuits.admit("acme/two") == 0, "another model is not its concern"


@pytest.mark.requirement("J1")
def test_one_probe_at_a_time_decides_whether_it_closes(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, 3)
    clock.now += 10
    assert circuits.admit(NAME) == 0
    assert circuits.admit(NAME) == 10.0, "a probe is under way"
    circuits.failed(NAME)
    assert circuits.admit(NAME) == 10.0
    clock.now += 10
    assert circuits.admit(NAME) == 0
    circuits.answered(NAME)
    assert [circuits.admit(NAME) for _ in range(3)] == [0, 0, 0]
    circuits.failed(NAME)
    assert circuits.admit(NAME) == 10.0, "it had only just come back"
    clock.now += 10
    circuits.admit(NAME)
    circuits.succeeded(NAME)
    fail(circuits, 2)
    assert circuits.admit(NAME) == 0


@pytest.mark.requirement("J1")
def test_a_probe_that_is_given_up_leaves_its_place(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, 3)
    clock.now += 10
    assert circuits.admit(NAME) == 0
    circuits.abandoned(NAME)
    assert circuits.admit(NAME) == 0
    clock.now += 10
    assert circuits.admit(NAME) == 0, "one that nobody heard of again does not block it for ever"


@pytest.mark.fault(38)
def test_one_owners_failures_close_a_model_to_that_owner_alone(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, 50, owner="ann")
    assert circuits.closed_for(NAME, "ann") == 10.0
    assert circuits.admit(NAME, "bob") == 0
    assert circuits.admit(NAME) == 0
    clock.now += 10
    assert circuits.is_open(NAME, "ann")
    assert not circuits.is_open(NAME, "bob")
    assert [circuits.admit(NAME, "ann"), circuits.admit(NAME, "ann")] == [0, 10.0]
    circuits.succeeded(NAME, "ann")
    assert circuits.admit(NAME, "ann") == 0


@pytest.mark.fault(38)
def test_failures_of_several_owners_close_a_model_to_all(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, 20, owner="ann")
    fail(circuits, 1, owner="bob")
    assert circuits.closed_for(NAME, "cy") == 0, "of three, each brings one"
    fail(circuits, 1, owner="cy")
    assert [circuits.closed_for(NAME, owner) for owner in ("ann", "bob", "cy", "dee", None)] == [10.0] * 5
    clock.now += 10
    assert [circuits.admit(NAME, "dee"), circuits.admit(NAME, "eve")] == [0, 10.0], "one probe for all"
    circuits.failed(NAME, "dee")
    assert circuits.closed_for(NAME, "eve") == 10.0
    clock.now += 10
    circuits.admit(NAME, "dee")
    circuits.answered(NAME, "dee")
    circuits.succeeded(NAME, "dee")
    assert circuits.admit(NAME, "eve") == 0


@pytest.mark.fault(38)
def test_another_owners_success_begins_the_count_for_all_anew(circuits: Circuits) -> None:
    for _ in range(10):
        fail(circuits, 2, owner="ann")
        fail(circuits, 1, owner="bob")
        circuits.succeeded(NAME, "cy")
        circuits.succeeded(NAME, "bob")
    assert circuits.admit(NAME, "cy") == 0


@pytest.mark.fault(38)
def test_owners_are_remembered_up_to_a_bound(circuits: Circuits) -> None:
    for number in range(2 * MAX_CIRCUITS):
        fail(circuits, 1, owner=f"owner {number}")
    assert len(circuits) == MAX_CIRCUITS + 1
    assert len(circuits._of_all[NAME].owners) <= circuits.policy.failures


def test_what_is_remembered_has_a_bound(circuits: Circuits) -> None:
    for number in range(MAX_CIRCUITS + 10):
        circuits.failed(f"acme/{number}")
    assert len(circuits) == MAX_CIRCUITS
    circuits.succeeded(f"acme/{MAX_CIRCUITS}")
    assert len(circuits) == MAX_CIRCUITS - 1


@given(st.lists(st.sampled_from(["fail", "succeed", "answer", "abandon", "wait"]), max_size=60))
def test_an_open_circuit_admits_at_most_one_call_at_a_time(happenings: list[str]) -> None:
    clock = Clock()
    circuits = Circuits(CircuitPolicy(failures=2, seconds=10.0), clock)
    for happening in happenings:
        plain_json = not circuits.admit(NAME)
        if happening == "wait":
            clock.now += 11
        elif plain_json:
            was_open = circuits.closed_for(NAME) > 0
            assert not was_open or circuits.admit(NAME) > 0
            {
                "fail": circuits.failed,
                "succeed": circuits.succeeded,
                "answer": circuits.answered,
                "abandon": circuits.abandoned,
            }[happening](NAME)
    clock.now += 11
    assert circuits.admit(NAME) == 0, "it is never closed for ever"
