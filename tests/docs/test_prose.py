"""The prose of the sources and the pages keeps to the rules of CONTRIBUTING.md, "Words"."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.prose import LIMITS, Place, places
from tests.docs.pages import PROJECT


@pytest.fixture(scope="module")
def found() -> list[Place]:
    return list(places())


@pytest.mark.parametrize("kind", LIMITS)
def test_odd_prose_stays_within_its_limit(found: list[Place], kind: str) -> None:
    listed = [
        f"{place.file.relative_to(PROJECT)}:{place.line}: {place.text[:80]}"
        for place in found
        if place.kind == kind
    ]
    assert len(listed) <= LIMITS[kind], "\n".join(listed)


def test_the_script_prints_its_counts() -> None:
    command = [sys.executable, str(PROJECT / "scripts" / "prose.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert [line.partition(":")[0] for line in printed.splitlines()] == list(LIMITS)
