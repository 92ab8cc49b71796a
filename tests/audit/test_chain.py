"""A chain of audit records: every change of a line is found, and files continue each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.audit.chain import check_files
from turnstream.audit.file import AuditFile
from turnstream.audit.records import EMPTY, AuditRecord, Head, line_of, read_line
from turnstream.errors import ConfigurationError

pytestmark = pytest.mark.requirement("K3")
LINES = 8


def lines_of(count: int, head: Head = EMPTY) -> tuple[list[bytes], Head]:
    lines: list[bytes] = []
    for number in range(count):
        record = AuditRecord(act="turn.start", at=f"t{number}", owner="alice", details={"blocks": number})
        line, head = line_of(record, head)
        lines.append(line)
    return lines, head


WHOLE, HEAD = lines_of(LINES)


def fault_of(folder: Path, data: bytes, expected: Head | None = HEAD) -> int | None:
    """The line at which a check finds the chain broken; 0 for a head that is missing."""
    path = folder / "audit.jsonl"
    path.write_bytes(data)
    fault = check_files([path], expected=expected).fault
    return None if fault is None else fault.line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


def test_a_record_has_its_place_and_its_hash(folder: Path) -> None:
    record = json.loads(WHOLE[3])
    assert list(record)[:2] == ["seq", "prev"]
    assert list(record)[-1] == "hash"
    assert (record["seq"], record["prev"]) == (4, json.loads(WHOLE[2])["hash"])
    assert (record["act"], record["owner"], record["details"]) == ("turn.start", "alice", {"blocks": 3})
    assert fault_of(folder, b"".join(WHOLE)) is None


@given(place=st.integers(0, sum(map(len, WHOLE)) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_is_found(folder: Path, place: int, byte: int) -> None:
    data = bytearray(b"".join(WHOLE))
    changed = data[place] != byte
    data[place] = byte
    line = bytes(b"".join(WHOLE))[:place].count(b"\n") + 1
    assert fault_of(folder, bytes(data)) == (line if changed else None)


@given(place=st.integers(0, LINES - 1))
def test_any_removed_line_is_found(folder: Path, place: int) -> None:
    left = [*WHOLE[:place], *WHOLE[place + 1 :]]
    if place == 0:  # a file may begin with any record: the file before has to be checked with it
        before = check_files([write(folder, b"".join(left))], after=EMPTY).fault
        assert before is not None
        assert before.line == 1
    else:
        assert fault_of(folder, b"".join(left)) == (0 if place == LINES - 1 else place + 1)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "audit.jsonl"
    path.write_bytes(data)
    return path


@given(st.data())
def test_any_swap_and_any_insertion_is_found(folder: Path, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, LINES - 2))
    second = data.draw(st.integers(first + 1, LINES - 1))
    swapped = list(WHOLE)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert check_files([write(folder, b"".join(swapped))], after=EMPTY).fault is not None
    place = data.draw(st.integers(0, LINES))
    forged, _ = line_of(AuditRecord(act="turn.start", owner="eve"), Head(place, "ab" * 32))
    added = data.draw(st.sampled_from([forged, WHOLE[first], b"\n", b"{}\n", b"not a record\n"]))
    longer = [*WHOLE[:place], added, *WHOLE[place:]]
    assert check_files([write(folder, b"".join(longer))], after=EMPTY).fault is not None


@given(place=st.integers(1, LINES - 1), records=st.integers(1, 3))
def test_a_rewritten_end_is_found_with_the_head_that_was_kept(folder: Path, place: int, records: int) -> None:
    """Anybody can write a chain anew. The head of an earlier check shows it."""
    forged, _ = lines_of(records, json_head(place))
    data = b"".join([*WHOLE[:place], *forged])
    assert fault_of(folder, data, None) is None
    if b"".join(WHOLE) != data:
        assert fault_of(folder, data, HEAD) == (None if WHOLE[-1] in forged else 0)


def json_head(place: int) -> Head:
    record = json.loads(WHOLE[place - 1])
    return Head(record["seq"], record["hash"])


@given(kept=st.integers(0, sum(map(len, WHOLE))), records=st.integers(0, 2))
def test_a_torn_last_line_is_closed_by_a_record(
    tmp_path_factory: pytest.TempPathFactory, kept: int, records: int
) -> None:
    """Whatever part of the file a crash has kept, the next server continues the chain."""
    path = tmp_path_factory.mktemp("torn") / "audit.jsonl"
    data = b"".join(WHOLE)[:kept]
    path.write_bytes(data)
    whole = data.count(b"\n")
    rest = data[data.rfind(b"\n") + 1 :]
    is_torn = bool(rest) and rest + b"\n" not in WHOLE
    file = AuditFile(path, 1 << 20)
    file.open()
    file.append([AuditRecord(act="audit.opened")] * records)
    file.close()
    check = check_files([path], after=EMPTY)
    assert check.fault is None
    assert check.torn == is_torn
    assert check.records == whole + (1 if rest else 0) + records
    assert path.read_bytes().startswith(data)
    again = AuditFile(path, 1 << 20)
    again.open()
    assert again.head == check.head
    again.close()


def test_a_broken_chain_is_not_continued(tmp_path: Path) -> None:
    """A whole line that was changed does not count as a line that a crash cut off."""
    path = tmp_path / "audit.jsonl"
    for data in (
        b"".join(WHOLE).replace(b"alice", b"alina", 1),
        b"".join(WHOLE[:-1]) + WHOLE[-1].replace(b"alice", b"alina"),
        b"".join([*WHOLE[:3], *WHOLE[4:]]),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigurationError, match=r"broken at line \d .*name another path"):
            AuditFile(path, 1 << 20).open()
        assert path.read_bytes() == data


def test_files_continue_each_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = AuditFile(path, 2000)
    file.open()
    for number in range(30):
        file.append([AuditRecord(act="turn.start", details={"blocks": number})])
    head = file.head
    file.close()
    older = sorted(tmp_path.glob("audit.jsonl.0*"))
    assert len(older) > 2
    assert all(part.stat().st_size <= 2000 for part in [*older, path])
    whole = check_files([*older, path], after=EMPTY, expected=head)
    assert (whole.fault, whole.head) == (None, head)
    for part in [*older[1:], path]:
        first = read_line(part.read_bytes().splitlines()[0])
        assert first is not None
        assert first.record.act == "audit.rotated"
        assert (tmp_path / first.record.details["from"]).exists()
    missing = check_files([older[0], *older[2:], path])
    assert missing.fault is not None
    assert missing.fault.file == str(older[2])
    path.unlink()  # a crash between the name of the old file and the new one
    again = AuditFile(path, 2000)
    again.open()
    again.append([AuditRecord(act="audit.opened")])
    again.close()
    assert check_files([*older, path], after=EMPTY).fault is None


def test_a_group_larger_than_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = AuditFile(path, 500)
    file.open()
    file.append([AuditRecord(act="a")] * 20)
    file.append([AuditRecord(act="b")] * 20)
    file.close()
    older = sorted(tmp_path.glob("audit.jsonl.0*"))
    assert check_files([*older, path], after=EMPTY).records == 41
