"""Records of the audit log, and their form as lines: JSON whose last field is the SHA-256 of all before it.

    {"seq":2,"prev":"<hash of line 1>","at":"…","act":"turn.start",…,"hash":"<of this line>"}

A line repeats the hash of the line before it. So a changed, removed, added or moved line breaks the chain.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

GENESIS = "0" * 64
"""The hash before the first record of a chain."""
TORN = "audit.torn_line"
"""Act of the record that closes a line which a crash has cut off. `details` has its bytes and its SHA-256."""
ROTATED = "audit.rotated"
"""Act of the first record of a file that continues another file. `details` names that file."""
LONGEST_LINE = 64 * 1024
"""Bytes of the longest line that a reader accepts."""
LONGEST_TEXT = 200
"""Characters of a text in a record. A longer one is shortened, and has its SHA-256 at its end."""
_HASH_FIELD = b',"hash":"'
_TAIL = len(_HASH_FIELD) + 64 + len(b'"}')


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One act.

    Args:
        act: Name of the act, such as `turn.start`.
        owner: Owner that the act is done for. None: the server itself, or an unknown caller.
        decision: `allowed`, `approved`, `denied`, `expired` or `refused`.
        outcome: `begun`, `done`, or the end: `complete`, `cancelled`, or the code of an error.
        details: Numbers, names, ids and digests. Never texts of users or models.
    """

    act: str
    at: str = ""
    owner: str | None = None
    chat: str | None = None
    turn: str | None = None
    tool: str | None = None
    decision: str | None = None
    outcome: str | None = None
    details: dict[str, Any] = {}


class _Line(AuditRecord, frozen=True, kw_only=True):
    """A record with its place in the chain."""

    seq: int
    prev: str


_FIELDS = ("seq", "prev", *AuditRecord.__struct_fields__)
_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class Head(NamedTuple):
    """The last record of a chain: its number and its hash."""

    seq: int
    hash: str


EMPTY = Head(0, GENESIS)


class ChainedRecord(NamedTuple):
    """A record that was read from a line, with its own place and the hash that it repeats."""

    record: AuditRecord
    head: Head
    previous_hash: str


def now() -> str:
    """Return the time as ISO 8601 in UTC, with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def short(text: str) -> str:
    """Return `text`, or its beginning and its digest if it is longer than LONGEST_TEXT."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:100]}… ({len(text)} characters, sha256 {digest(text)})"


def digest(text: str | bytes) -> str:
    """Return the SHA-256 of a text in hexadecimal digits."""
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8", "replace")).hexdigest()


def line_of(record: AuditRecord, before: Head) -> tuple[bytes, Head]:
    """Return the line of a record after `before`, line feed included, and the head that follows from it."""
    values = {"seq": before.seq + 1, "prev": before.hash}
    values.update({name: value for name, value in msgspec.structs.asdict(record).items() if value})
    body = _encode(values)
    own = digest(body)
    return b'%s%s%s"}\n' % (body[:-1], _HASH_FIELD, own.encode()), Head(before.seq + 1, own)


def read_line(line: bytes) -> ChainedRecord | None:
    """Return the record of a line, with or without its line feed. None: its own hash or its form is wrong."""
    line = line.removesuffix(b"\n")
    body, tail = line[:-_TAIL] + b"}", line[-_TAIL:]
    own = digest(body)
    if tail != b'%s%s"}' % (_HASH_FIELD, own.encode()):
        return None
    try:
        read = _decode(body)
    except msgspec.DecodeError:
        return None
    return ChainedRecord(read, Head(read.seq, own), read.prev)
