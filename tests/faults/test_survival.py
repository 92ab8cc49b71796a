"""The sixteen faults, with and without a fallback, through the server and without one (requirements J1 to J4, D4, D6, I3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.survival import FAULTS, QUICK, Faces, Fault, asked, check, faces_of


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
