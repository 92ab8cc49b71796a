"""The sixteen faults, with and without a fallback, through the server and without one (requirements J1 to J4, D4, D6, I3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.survival import FAULTS, QUICK, Faces, Fault, asked, check, faces_of, outlive


@pytest.fixture
async def faces(tmp_path: Path) -> AsyncIterator[Faces]:
    async with faces_of(tmp_path, QUICK) as made:
        yield made


@pytest.mark.requirement("J1", "J4", "D4", "D6", "I3")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_fault_is_survived_or_ends_cleanly(fault: Fault, faces: Faces) -> None:
    async def one(face: str, *, with_fallback: bool) -> None:
        models = asked(fault, QUICK, f"{face} {with_fallback}")
        outcome = await getattr(faces, face)(models, with_fallback=with_fallback)
        check(fault, faces, models, outcome, with_fallback=with_fallback)

    tries = [
        one(face, with_fallback=with_fallback)
        for face in ("server", "library")
        for with_fallback in (True, False)
    ]
    await asyncio.gather(*tries)


@pytest.mark.requirement("J1")
@pytest.mark.parametrize("face", ["server", "library"])
async def test_a_provider_that_is_down_for_a_while_is_left_alone_probed_and_returned_to(
    face: str, faces: Faces
) -> None:
    outage = await outlive(faces, face, face)
    retry = QUICK.retry
    assert outage.skipped, "while its circuit is open, nobody calls it"
    # Until the circuit opens, and then one probe each time that it may have come back.
    probes = QUICK.down / retry.circuit_seconds + 1
    assert retry.circuit_failures <= outage.called <= retry.circuit_failures + probes
    *others, last = outage.answered_by
    assert all(name.startswith("backup/") for name in others)
    assert last.startswith("primary/")


@pytest.mark.requirement("J1", "J2")
async def test_while_a_circuit_is_open_a_model_without_a_fallback_fails_at_once(faces: Faces) -> None:
    fault = FAULTS[3]
    models = asked(fault, QUICK, "alone")
    codes = [(await faces.server(models, with_fallback=False)).code for _ in range(3)]
    assert codes == ["overloaded_error", "overloaded_error", "circuit_open"]
    requests = len(faces.requests(models.names[0]))
    assert requests == QUICK.retry.circuit_failures
    outcome = await faces.server(models, with_fallback=False)
    assert len(faces.requests(models.names[0])) == requests
    assert outcome.attempts == [(models.primary, "circuit_open")]
    assert outcome.row is not None
    assert (outcome.row["cost"], outcome.row["input_tokens"]) == (None, None)
