"""The TypeScript types of web/client are those of the package's schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.client_types import files


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_generated_types_are_current(path: Path) -> None:
    assert path.read_text("utf-8") == files()[path], "outdated: run `python scripts/client_types.py`"
