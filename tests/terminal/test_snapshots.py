"""Each state of the window looks like its stored picture, in a small and in a large terminal."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.terminal.pictures import FOLDER, SIZES, picture, stored
from tests.terminal.scenes import SCENES


@pytest.mark.parametrize("state", SCENES)
async def test_a_state_looks_as_stored(state: str, tmp_path: Path) -> None:
    expected = stored(state)
    async with SCENES[state](tmp_path) as shown:
        for size in SIZES:
            await shown.pilot.resize_terminal(*size)
            try:
                await shown.until(lambda size=size: picture(shown) == expected[size], "stored picture")
            except AssertionError:
                differences = difflib.unified_diff(
                    expected[size].splitlines(), picture(shown).splitlines(), "stored", "now", lineterm=""
                )
                pytest.fail("\n".join(differences), pytrace=False)


def test_each_stored_state_is_tested() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SCENES)
