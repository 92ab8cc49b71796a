from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path

from tests.requirements.__main__ import report
from tests.requirements.lines import (
    LINE_ID,
    STATUSES,
    Line,
    collect_markers,
    lines_with_tests,
    markers_in,
    read_manifest,
)


def test_every_line_is_described():
    for line in read_manifest().values():
        assert LINE_ID.fullmatch(line.id), f"{line.id} is no requirement id"
        assert line.status in STATUSES, f"{line.id} has status {line.status}; known are {', '.join(STATUSES)}"
        assert len(line.text.splitlines()) == 1, f"{line.id} needs a text of one line"


def test_no_line_is_missing_between_the_first_and_the_last():
    ids = list(read_manifest())
    groups = {letter: list(group) for letter, group in groupby(ids, key=lambda line_id: line_id[0])}
    assert list(groups) == list("ABCDEFGHIJKLMNOP")
    for letter, group in groups.items():
        assert group == [f"{letter}{number}" for number in range(1, len(group) + 1)]


def test_every_done_line_has_a_test():
    untested = [line.id for line in lines_with_tests() if line.status == "done" and not line.tests]
    assert not untested, f"done, but no test is marked with @pytest.mark.requirement: {', '.join(untested)}"


def test_every_marker_names_a_line():
    known = read_manifest()
    unknown = {str(line_id): places for line_id, places in collect_markers().items() if line_id not in known}
    assert not unknown, f"markers that name no line of the manifest: {unknown}"


def test_markers_are_found_wherever_pytest_allows_them(tmp_path: Path):
    source = textwrap.dedent(
        """
        import pytest
        pytestmark = [pytest.mark.requirement("A1"), pytest.mark.slow]
        @pytest.mark.requirement("B1", "B2")
        class TestBlocks:
            @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.requirement("C1"))])
            async def test_one(self, x): ...
        """
    )
    assert [ids for _, ids in markers_in(source)] == [["A1"], ["B1", "B2"], ["C1"]]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "test_it.py").write_text(source)
    (tmp_path / "deep" / "support.py").write_text('import pytest\nmark = pytest.mark.requirement("D1")\n')
    assert collect_markers(tmp_path) == {
        "A1": ["deep/test_it.py:3"],
        "B1": ["deep/test_it.py:4"],
        "B2": ["deep/test_it.py:4"],
        "C1": ["deep/test_it.py:6"],
    }


def test_an_id_that_is_computed_is_not_overlooked():
    ((_, ids),) = markers_in("import pytest\nmark = pytest.mark.requirement(NAME)")
    assert ids[0] not in read_manifest()


def test_the_report_counts_lines_and_tests():
    text = report([Line("A1", "one", "done", ("f:1", "f:2")), Line("A2", "two", "planned")])
    assert "A1   done         2  one" in text
    assert text.endswith("2 lines: 1 done, 0 partial, 1 planned")
