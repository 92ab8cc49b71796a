"""The cases of cases.yaml as Python values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from turnstream.core.blocks import Block

FILE = Path(__file__).with_name("cases.yaml")


@dataclass(frozen=True)
class Connection:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    end: Literal["close", "cut", "silent"] = "close"
    asked_with: str | msgspec.UnsetType | None = msgspec.UNSET


@dataclass(frozen=True)
class Outcome:
    blocks: list[Block]
    last_id: str | None
    connections: int
    status: str | None = None
    raises: int | Literal["malformed"] | None = None
    error: dict[str, str] | None = None
    lost: list[int] = field(default_factory=list)
    usage: dict[str, int] | None = None


@dataclass(frozen=True)
class Case:
    name: str
    connections: list[Connection]
    outcome: Outcome
    after: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    cases: list[Case]


CASES = msgspec.convert(yaml.safe_load(FILE.read_text(encoding="utf-8")), _File).cases


def known_names() -> dict[str, set[str]]:
    """Every name that cases.yaml uses, by where it stands: a misspelt one would silently be no
    expectation."""
    raw: Any = yaml.safe_load(FILE.read_text(encoding="utf-8"))["cases"]
    return {
        "case": {name for case in raw for name in case},
        "connection": {name for case in raw for answer in case["connections"] for name in answer},
        "outcome": {name for case in raw for name in case["outcome"]},
    }
