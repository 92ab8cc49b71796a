"""The file of an audit log: one writer, lines that are durable before `append` returns, rotation by size.

A file that reaches its largest size is renamed to `PATH.SEQ`, with the number of its first record. The next
file begins with the hash of its last record.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from turnstream.audit.chain import ChainCheck, check_files, closing_details
from turnstream.audit.records import EMPTY, ROTATED, TORN, AuditRecord, Head, line_of, now, read_line
from turnstream.errors import ConfigurationError


class AuditFile:
    """The open file of an audit log. Its methods block, and are called from one thread at a time.

    Args:
        max_bytes: Size at which a file is closed and the next one begins.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = FileLock(path.with_name(f"{path.name}.lock"), thread_local=False)
        self._descriptor: int | None = None
        self._head = EMPTY
        self._first_seq = 1
        self._size = 0
        self._is_clean = True
        """False if bytes of a failed write may follow the last line."""

    @property
    def head(self) -> Head:
        """The last record of the chain."""
        return self._head

    def open(self) -> None:
        """Take the lock, check the last file, and close a line that a crash has cut off.

        Raises ConfigurationError, with the remedy, if another process has the log, if its chain is broken, or
        if it cannot be opened.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ConfigurationError(
                f"the audit log {self.path} is written by another server: stop it, or give this one a log of "
                "its own (audit.path)"
            ) from None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._continue_chain()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Write records and make them durable. Raises OSError: then none of them is in the log."""
        data, head = _lines_of(records, self._head)
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
            data, head = _lines_of(records, self._head)
        self._write(data)
        self._head = head

    def close(self) -> None:
        """Close the file and release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._lock.release()

    def _continue_chain(self) -> None:
        before = self._head_of_older_files()
        exists = self.path.exists()
        check = check_files([self.path], after=before) if exists else ChainCheck(head=before or EMPTY)
        if check.fault is not None and not check.tail:
            raise self._broken(check)
        self._head = check.head if check.records else before or EMPTY
        self._first_seq = (check.first or self._head).seq + 1
        self._size = check.size
        self._open_descriptor()
        if check.tail:
            self._close_tail(check.tail)

    def _close_tail(self, tail: bytes) -> None:
        """Add a missing line feed to a complete last line. After an incomplete one, add a record about it."""
        descriptor = self._open_descriptor()
        read = read_line(tail)
        if read is not None and read.previous_hash == self._head.hash and read.head.seq == self._head.seq + 1:
            os.write(descriptor, b"\n")
            self._head = read.head
            self._size += len(tail) + 1
            return
        torn = tail + b"\n"
        line, head = line_of(AuditRecord(act=TORN, at=now(), details=closing_details(torn)), self._head)
        os.write(descriptor, b"\n" + line)
        os.fsync(descriptor)
        self._head = head
        self._size += len(torn) + len(line)

    def _head_of_older_files(self) -> Head | None:
        """Return the last record of the newest file that was rotated. None: there is none."""
        older = sorted(
            path
            for path in self.path.parent.glob(f"{self.path.name}.*")
            if path.suffix[1:].isdecimal() and path.is_file()
        )
        if not older:
            return None
        check = check_files(older[-1:])
        if check.fault is not None:
            raise self._broken(check)
        return check.head if check.records else None

    def _rotate(self) -> None:
        older = self.path.with_name(f"{self.path.name}.{self._first_seq:012d}")
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self.path.exists():
            self.path.rename(older)
        self._size, self._first_seq = 0, self._head.seq + 1
        line, head = line_of(AuditRecord(act=ROTATED, at=now(), details={"from": older.name}), self._head)
        self._write(line)
        self._head = head

    def _write(self, data: bytes) -> None:
        """Append bytes and make them durable, or leave the file as it was."""
        descriptor = self._open_descriptor()
        if not self._is_clean:
            os.ftruncate(descriptor, self._size)
            self._is_clean = True
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            self._is_clean = False
            with suppress(OSError):  # the next write tries again
                os.ftruncate(descriptor, self._size)
                self._is_clean = True
            raise
        self._size += len(data)

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            is_new = not self.path.exists()
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            if is_new:
                _sync_folder(self.path.parent)
        return self._descriptor

    def _broken(self, check: ChainCheck) -> ConfigurationError:
        assert check.fault is not None
        file, line, reason = check.fault
        return ConfigurationError(
            f"the audit log is broken at line {line} of {file} ({reason}): keep its files for an "
            "investigation, and name another path (audit.path)"
        )

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"the audit log {self.path} cannot be opened ({error.strerror}): give a path in a writable "
            "folder (audit.path)"
        )


def _lines_of(records: Sequence[AuditRecord], head: Head) -> tuple[bytes, Head]:
    """Return the lines of records that follow `head`, and the head after them."""
    lines: list[bytes] = []
    for record in records:
        line, head = line_of(record, head)
        lines.append(line)
    return b"".join(lines), head


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
