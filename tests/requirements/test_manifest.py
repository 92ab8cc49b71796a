from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path

import pytest

from tests.requirements.__main__ import report
from tests.requirements.lines import (
    FAULTS,
    MANIFESTS,
    REQUIREMENTS,
    STATUSES,
    TESTS,
    Line,
    Manifest,
    collect_markers,
    lines_with_tests,
    markers_in,
    read_manifest,
)
from tests.requirements.page import PAGE, page

each_manifest = pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.marker)


@each_manifest
def test_every_line_is_described(manifest: Manifest):
    for line in read_manifest(manifest).values():
        assert manifest.line_id.fullmatch(line.id), f"{line.id} is not the id of a {manifest.marker}"
        assert line.status in STATUSES, f"{line.id} has status {line.status}; known are {', '.join(STATUSES)}"
        assert len(line.text.splitlines()) == 1, f"{line.id} needs a text of one line"


def test_no_line_is_missing_between_the_first_and_the_last():
    ids = list(read_manifest(REQUIREMENTS))
    groups = {letter: list(group) for letter, group in groupby(ids, key=lambda line_id: line_id[0])}
    assert list(groups) == list("ABCDEFGHIJKLMNOPQR")
    for letter, group in groups.items():
        assert group == [f"{letter}{number}" for number in range(1, len(group) + 1)]
    faults = list(read_manifest(FAULTS))
    assert faults == [str(number) for number in range(1, len(faults) + 1)]


@each_manifest
def test_every_done_line_has_a_test(manifest: Manifest):
    lines = lines_with_tests(manifest)
    untested = [line.id for line in lines if line.status == "done" and not line.tests]
    assert not untested, (
        f"done, but no test is marked with @pytest.mark.{manifest.marker}: {', '.join(untested)}"
    )


@each_manifest
def test_every_marker_names_a_line(manifest: Manifest):
    known = read_manifest(manifest)
    markers = collect_markers(manifest.marker)
    unknown = {str(line_id): places for line_id, places in markers.items() if line_id not in known}
    assert not unknown, f"markers that name no line of the manifest: {unknown}"


def test_the_page_of_the_docs_follows_from_the_manifest():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.requirements.page`"


def test_the_page_has_every_line_once():
    codes = [line.split("|")[1].strip() for line in page().splitlines() if line.startswith("| ")]
    assert [code for code in codes if REQUIREMENTS.line_id.fullmatch(code)] == list(
        read_manifest(REQUIREMENTS)
    )


def test_the_package_names_no_line():
    codes = set(read_manifest(REQUIREMENTS))
    package = TESTS.parent / "src" / "turnstream"
    named = {
        file.relative_to(package).as_posix(): found
        for file in sorted(package.rglob("*.py"))
        if (found := codes & set(re.findall(r"\b[A-Z][1-9][0-9]?\b", file.read_text(encoding="utf-8"))))
    }
    assert named.pop("terminal/keys.py") == {"F1"}, "a key of the keyboard"
    assert not named, "the tests' marks carry the codes"


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
    assert [ids for _, ids in markers_in(source, "requirement")] == [["A1"], ["B1", "B2"], ["C1"]]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "test_it.py").write_text(source)
    (tmp_path / "deep" / "support.py").write_text('import pytest\nmark = pytest.mark.requirement("D1")\n')
    assert collect_markers("requirement", tmp_path) == {
        "A1": ["deep/test_it.py:3"],
        "B1": ["deep/test_it.py:4"],
        "B2": ["deep/test_it.py:4"],
        "C1": ["deep/test_it.py:6"],
    }


def test_an_id_that_is_computed_is_not_overlooked():
    ((_, ids),) = markers_in("import pytest\nmark = pytest.mark.requirement(NAME)", "requirement")
    assert ids[0] not in read_manifest(REQUIREMENTS)


def test_the_report_counts_lines_and_tests():
    text = report([Line("A1", "one", "done", ("f:1", "f:2")), Line("A2", "two", "planned")])
    assert "A1   done         2  one" in text
    assert text.endswith("2 lines: 1 done, 0 partial, 1 planned")
