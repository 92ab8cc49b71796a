"""Checks chains of audit records, in one file or in several that continue each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from turnstream.audit.records import EMPTY, LONGEST_LINE, TORN, ChainedRecord, Head, read_line

MOST_TORN = 8
"""Pieces that a line may be torn into: a crash, and crashes while it was being closed."""


class ChainFault(NamedTuple):
    """The first place at which a chain breaks."""

    file: str
    line: int
    reason: str


class ChainCheck(NamedTuple):
    """The result of a check.

    Attributes:
        first: The head before the first record. None: there is no record.
        head: The last record before the fault.
        records: Number of records before the fault.
        torn: Number of lines that a crash cut off. A record after each of them describes it.
        size: Bytes of the last file, up to the end of the last record before the fault.
        fault: The place at which the chain breaks, or None.
        tail: The bytes after `size`, if they are an incomplete last line. Else empty.
    """

    first: Head | None = None
    head: Head = EMPTY
    records: int = 0
    torn: int = 0
    size: int = 0
    fault: ChainFault | None = None
    tail: bytes = b""


def check_files(
    paths: Sequence[Path], *, after: Head | None = None, expected: Head | None = None
) -> ChainCheck:
    """Return the check of the files, each of which continues the one before.

    Raises OSError if a file cannot be read.

    Args:
        after: The head that the first record follows. None: any.
        expected: A record that has to be in the files. It shows if the last lines were removed. None: any
            record may be missing at the end.
    """
    check = ChainCheck(head=after or EMPTY)
    before, is_found = after, expected is None
    for path in paths:
        with path.open("rb") as file:
            found = _FileCheck(str(path), file, before, expected)
            result = found.run()
        is_found = is_found or found.has_expected
        before = result.head if result.records else before
        check = result._replace(
            first=check.first or result.first,
            head=before or EMPTY,
            records=check.records + result.records,
            torn=check.torn + result.torn,
        )
        if check.fault is not None:
            return check
    if not is_found and expected is not None:
        reason = f"record {expected.seq} is missing or another one: the last lines were removed or replaced"
        return check._replace(fault=ChainFault(str(paths[-1]), 0, reason))
    return check


class _FileCheck:
    """The check of one file.

    Args:
        before: The head that its first record has to follow. None: any.
        expected: The record to look for.
    """

    def __init__(self, name: str, file: BinaryIO, before: Head | None, expected: Head | None) -> None:
        self.has_expected = False
        self._expected = expected
        self._name = name
        self._file = file
        self._line = 0
        self._records = self._torn = self._size = 0
        self._first: Head | None = None
        self._head = before

    def run(self) -> ChainCheck:
        while line := self._file.readline(LONGEST_LINE + 1):
            self._line += 1
            read = read_line(line)
            if read is None:
                if (bad := self._skip_torn(line)) is not None:
                    return bad
                continue
            if not line.endswith(b"\n"):
                return self._check("the last line has no end: the server was stopped while it wrote", line)
            if (reason := self._misplaced(read)) is not None:
                return self._check(reason)
            self._take(read, len(line))
        return self._check()

    def _take(self, read: ChainedRecord, size: int) -> None:
        if self._first is None:
            self._first = self._head or Head(read.head.seq - 1, read.previous_hash)
        self._head = read.head
        self.has_expected = self.has_expected or read.head == self._expected
        self._records += 1
        self._size += size

    def _misplaced(self, read: ChainedRecord) -> str | None:
        """Return the reason why a record does not follow the one before, or None."""
        before = self._head
        if before is None:
            return None
        if read.head.seq != before.seq + 1:
            return f"record {read.head.seq} follows record {before.seq}: lines are missing, added or moved"
        if read.previous_hash != before.hash:
            return f"record {read.head.seq} follows another record {before.seq}: a line was replaced"
        return None

    def _skip_torn(self, line: bytes) -> ChainCheck | None:
        """Skip a torn line up to the record that closes it. Return the check if none does."""
        began = self._line
        reason = "the line is not a record, or it was changed"
        torn = line
        for _ in range(MOST_TORN):
            if not line.endswith(b"\n"):
                whole = "the last line is not whole: the server was stopped while it wrote"
                return self._check(whole, torn, began)
            line = self._file.readline(LONGEST_LINE + 1)
            if not line:
                break
            self._line += 1
            read = read_line(line)
            if read is not None:
                if not _closes(read, torn) or self._misplaced(read) is not None:
                    break
                self._torn += 1
                self._take(read, len(torn) + len(line))
                return None
            torn += line
        return self._check(reason, line=began)

    def _check(self, reason: str | None = None, tail: bytes = b"", line: int = 0) -> ChainCheck:
        fault = None if reason is None else ChainFault(self._name, line or self._line, reason)
        return ChainCheck(
            self._first, self._head or EMPTY, self._records, self._torn, self._size, fault, tail
        )


def closing_details(torn: bytes) -> dict[str, int | str]:
    """Return the details of the record that closes a torn line, given with the line feed after it."""
    return {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}


def _closes(read: ChainedRecord, torn: bytes) -> bool:
    return read.record.act == TORN and read.record.details == closing_details(torn)
