"""The layout of the project: folders and files stay small enough to be read."""

from __future__ import annotations

from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
MOST_FILES = 25
GENERATED = {"__pycache__", "built"}
"""Names of folders that no reader looks at: caches, and the built page."""
MOST_LINES = 400


@pytest.mark.parametrize("root", ["src", "tests", "benchmarks", "scripts"])
def test_no_folder_holds_more_files_than_a_reader_can_survey(root: str) -> None:
    folders = [
        path for path in (PROJECT / root).rglob("*") if path.is_dir() and not GENERATED & set(path.parts)
    ]
    counts = {
        str(folder.relative_to(PROJECT)): sum(path.is_file() for path in folder.iterdir())
        for folder in folders
    }
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("root", ["src", "tests", "benchmarks", "scripts"])
def test_no_file_is_longer_than_a_reader_can_hold(root: str) -> None:
    lengths = {
        str(path.relative_to(PROJECT)): len(path.read_bytes().splitlines())
        for path in (PROJECT / root).rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
