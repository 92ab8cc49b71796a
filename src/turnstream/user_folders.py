"""Folders of the user, by the XDG base directory specification. Only the user can read their files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700


def state_folder() -> Path:
    """Return `$XDG_STATE_HOME/turnstream`, else `~/.local/state/turnstream`."""
    return _folder("XDG_STATE_HOME", ".local/state")


def data_folder() -> Path:
    """Return `$XDG_DATA_HOME/turnstream`, else `~/.local/share/turnstream`."""
    return _folder("XDG_DATA_HOME", ".local/share")


def config_folder() -> Path:
    """Return `$XDG_CONFIG_HOME/turnstream`, else `~/.config/turnstream`."""
    return _folder("XDG_CONFIG_HOME", ".config")


def make_private(folder: Path) -> None:
    """Make a folder that only the user can open, unless it exists. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)


def write_private(file: Path, data: bytes) -> None:
    """Replace a file in one step by one that only the user can read. Raises OSError."""
    make_private(file.parent)
    # A new file replaces the old one, so that concurrent writers never leave a partial file. `mkstemp` makes
    # it readable by the user only.
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.stem}-")
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(data)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _folder(variable: str, default: str) -> Path:
    home = os.environ.get(variable, "").strip()
    return (Path(home) if home else Path.home() / default) / "turnstream"
