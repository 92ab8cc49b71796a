"""One writer process per database file: a lock beside it, held for as long as the store is open.

The kernel lets go of it when its holder dies, however it dies. The lock file stays, and names the last holder.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from turnstream.errors import StoreError, StoreLocked


class WriterLock:
    """The lock of the database at `database`: `database.lock`, beside the file itself where that is a link to it."""

    def __init__(self, database: Path) -> None:
        file = database.resolve()
        self.path = file.with_name(f"{file.name}.lock")
        self._database = database
        # Threads share it: a store may be opened by one and closed by another.
        self._lock = FileLock(
            self.path, thread_local=False, fallback_to_soft=False, on_acquired=_write_process_id
        )

    def acquire(self) -> None:
        """Raises StoreLocked at once when another holds it, and StoreError when the file system cannot lock."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise StoreLocked(self._refusal()) from None
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be locked ({error.strerror}): "
                "keep the database in a writable folder of a local disk",
                retryable=False,
            ) from error

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        self._lock.release()

    def _refusal(self) -> str:
        try:
            holder = self.path.read_text("ascii")[:20].strip()
        except (OSError, ValueError):
            holder = ""
        process = f"another process (pid {holder})" if holder.isdigit() else "another process"
        return (
            f"{self._database} is written by {process}, and only one may: "
            "stop it, or give this one a database of its own (--database-url sqlite:///OTHER/PATH)"
        )


def _write_process_id(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
