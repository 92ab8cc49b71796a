"""The last turn of `turnstream ask` at each server and database, from which `--continue` continues.

The user's state folder contains one file for all of them, `last-asked.json`. The user's data folder contains
the database for questions without a server, `chats.sqlite`. Only the user can read them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from turnstream.errors import InvalidRequest
from turnstream.user_folders import PRIVATE, data_folder, make_private, state_folder, write_private

MAX_PLACES = 100
"""Number of servers and databases that are remembered. The least recently used are dropped."""


class ConversationPlace(NamedTuple):
    """The last turn of a conversation. `turn_id`: None for the last turn of the branch that is shown."""

    chat_id: str
    turn_id: str | None = None


def own_database() -> str:
    """Return the URL of the default database for questions without a server."""
    return f"sqlite:///{data_folder() / 'chats.sqlite'}"


def make_own_database() -> None:
    """Make the file of the default database, so that only the user can read it. Raises OSError."""
    folder = data_folder()
    make_private(folder)
    os.close(os.open(folder / "chats.sqlite", os.O_CREAT | os.O_RDWR, PRIVATE))


def recall(where: str) -> ConversationPlace:
    """Return the last turn at `where`, the URL of a server or a database.

    Raises InvalidRequest if none is known.
    """
    place = _read().get(where)
    try:
        return ConversationPlace(str(place["chat_id"]), str(place["turn_id"]))  # type: ignore[index]
    except (TypeError, KeyError):
        raise InvalidRequest(f"no conversation is known at {where}: ask without --continue first") from None


def remember(where: str, place: ConversationPlace) -> None:
    """Store the last turn at `where`. Raises OSError if the file cannot be written."""
    places = _read()
    places.pop(where, None)
    places[where] = {"chat_id": place.chat_id, "turn_id": place.turn_id}
    kept = dict(list(places.items())[-MAX_PLACES:])
    write_private(_file(), msgspec.json.format(msgspec.json.encode(kept), indent=2))


def _file() -> Path:
    return state_folder() / "last-asked.json"


def _read() -> dict[str, Any]:
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}  # missing or not valid; the turns themselves are in the database
