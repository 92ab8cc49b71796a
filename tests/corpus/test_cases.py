"""Small inputs that were once decoded wrongly decode to their right value, for every cut of their bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.corpus.recordings import every_cut, single_bytes
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, recorded_body

ANY_ID = "any id"
ERROR_CODE = "context_length_exceeded"
"""The only code that cases name. Other values of `error` describe the error in words; any typed error passes.
"""

OPEN = frozenset({})
"""Cases that are known to fail."""


class Case(NamedTuple):
    """One file of the folder of cases; `right` is the entry of the index for it."""

    folder: Path
    name: str
    right: dict[str, Any]

    @property
    def body(self) -> bytes:
        data = (self.folder / self.name).read_bytes()
        return recorded_body(WIRES[self.right["wire"]], data, file_name=self.name)


def cases(*, mark_open: bool = False) -> list[Any]:
    """Return every case as a parameter of a test, or one parameter that skips if there is no folder."""
    folder = os.environ.get("TURNSTREAM_CASES")
    if not folder:
        return [
            pytest.param(None, id="no-cases", marks=pytest.mark.skip(reason="TURNSTREAM_CASES is not set"))
        ]
    index = json.loads((Path(folder) / "index.json").read_text(encoding="utf-8"))
    return [
        pytest.param(
            Case(Path(folder), name, right),
            id=name,
            marks=[pytest.mark.xfail(reason="known")] if mark_open and name in OPEN else [],
        )
        for name, right in index.items()
    ]


@pytest.mark.parametrize("case", cases(mark_open=True))
@pytest.mark.fault(11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23)
def test_decodes_to_the_right_value(case: Case) -> None:
    wire = WIRES[case.right["wire"]]
    decoded = decode_pieces(wire, [case.body])
    blocks, right = decoded["blocks"], case.right
    if "complete" in right:
        assert decoded["complete"] is right["complete"]
    if "error" in right:
        assert decoded["error"]["message"]
        assert right["error"] == decoded["error"]["code"] or right["error"] != ERROR_CODE
    for field, block_type in (("text", "text"), ("thinking", "thinking")):
        if field in right:
            texts = (block["text_content"] for block in blocks if block["block_type"] == block_type)
            assert "".join(texts) == right[field]
    if "blocks" in right:
        assert [block["block_type"] for block in blocks] == right["blocks"]
    if "tools" in right:
        calls = [block["content"] for block in blocks if block["block_type"] == "tool_use"]
        found = [[call["tool_use_id"], call["tool_name"], call["input"]] for call in calls]
        for call, expected in zip(found, right["tools"], strict=False):
            call[0] = ANY_ID if expected[0] == ANY_ID else call[0]
        assert found == right["tools"]


@pytest.mark.parametrize("case", cases())
@pytest.mark.fault(11, 23)
def test_any_cut_decodes_alike(case: Case) -> None:
    wire = WIRES[case.right["wire"]]
    whole = decode_pieces(wire, [case.body])
    for pieces in [*every_cut(case.body), single_bytes(case.body)]:
        assert without_count(decode_pieces(wire, pieces)) == without_count(whole)


def without_count(decoded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in decoded.items() if key != "events"}
