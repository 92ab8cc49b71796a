"""`turnstream audit verify`: the line at which a log is broken, and the head of a log that is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.audit.test_chain import lines_of
from turnstream.cli.main import main

pytestmark = pytest.mark.requirement("K3")


def test_a_whole_log_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, head = lines_of(5)
    older, path = tmp_path / "audit.jsonl.000000000001", tmp_path / "audit.jsonl"
    older.write_bytes(b"".join(lines[:3]))
    path.write_bytes(b"".join(lines[3:]))
    assert main(["audit", "verify", str(older), str(path)]) == 0
    assert capsys.readouterr().out == f"valid: 5 records; head {head.seq}:{head.hash}\n"
    assert main(["audit", "verify", str(older), str(path), "--expect", f"5:{head.hash}"]) == 0


def test_a_broken_log_is_reported_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = lines_of(5)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"alice", b"alina"), *lines[3:]]))
    assert main(["audit", "verify", str(path)]) == 1
    told = capsys.readouterr().out
    assert told.startswith(f"broken at {path}, line 3: the line is not a record, or it was changed")
    assert main(["audit", "verify", str(path), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["valid"], result["records"], result["fault"]["line"]) == (False, 2, 3)


def test_removed_last_lines_are_found_with_an_earlier_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, head = lines_of(5)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(lines[:4]))
    assert main(["audit", "verify", str(path)]) == 0
    assert main(["audit", "verify", str(path), "--expect", f"5:{head.hash}"]) == 1
    assert "record 5 is missing" in capsys.readouterr().out


def test_mistakes_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(tmp_path / "none")]) == 2
    assert "correct the path" in capsys.readouterr().err
    (tmp_path / "audit.jsonl").write_bytes(b"")
    assert main(["audit", "verify", str(tmp_path / "audit.jsonl"), "--expect", "5"]) == 2
    assert "SEQ:HASH" in capsys.readouterr().err
