"""Files of the background server: its socket, its lock and its log, which only their user can read."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple

from turnstream.errors import ConfigurationError
from turnstream.user_folders import data_folder, make_private, state_folder

_LONGEST_PATH = 100
"""Bytes of a socket's path on all systems."""


class BackgroundPlace(NamedTuple):
    """The place of a background server. `folder`: has its lock and its log."""

    folder: Path
    socket_path: Path

    @property
    def lock_path(self) -> Path:
        """File that is locked while a server is being started."""
        return self.folder / "start.lock"

    @property
    def log_path(self) -> Path:
        """File with the log of the last server."""
        return self.folder / "server.log"

    @property
    def database_url(self) -> str:
        """URL of the database."""
        return f"sqlite:///{data_folder() / 'background.sqlite'}"

    def answers(self) -> bool:
        """Return True if a server accepts connections."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True


def background_place() -> BackgroundPlace:
    """Return the place of this user's server, and make its folders.

    Raises ConfigurationError if a folder belongs to another user.
    """
    make_private(data_folder())
    folder = _private(state_folder() / "background")
    path = folder / "server.sock"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "").strip() or tempfile.gettempdir()
        path = _private(Path(runtime) / f"turnstream-{os.getuid()}") / f"{name}.sock"
    return BackgroundPlace(folder, path)


def _private(folder: Path) -> Path:
    make_private(folder)
    status = folder.lstat()
    if status.st_uid != os.getuid():
        raise ConfigurationError(
            f"{folder} belongs to another user: set XDG_STATE_HOME to a folder of your own"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
