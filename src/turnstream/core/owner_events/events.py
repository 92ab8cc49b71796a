"""ChatEvents: what happens to the chats and turns of an owner, for watchers of many turns.

The native events of the turns themselves are `core/turn_events.py`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

EndCode: TypeAlias = Literal["draining", "database_error", "chat_deleted"]
"""Reason for the end of a stream: no turn runs any more because the server stops, or storage failed."""


class EventsStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="events_start"):
    """The stream does not resume: the client drops all turns of the stream.

    The running turns follow, each with a `TurnStarted`. Lists that the client read earlier may be outdated.
    """

    chat_id: str | None = None


class EventsEnd(msgspec.Struct, frozen=True, gc=False, tag="events_end"):
    """The connection closes after this event. The client resumes, unless `code` is `chat_deleted`."""

    code: EndCode


class _ChatState(msgspec.Struct, frozen=True, gc=False):
    chat_id: str
    title: str | None
    created_at: str
    updated_at: str
    active_turn_id: str | None


class ChatCreated(_ChatState, frozen=True, gc=False, tag="chat_created"):
    """A chat was created. The fields show the chat as it is now."""


class ChatChanged(_ChatState, frozen=True, gc=False, tag="chat_changed"):
    """A chat has another title, other metadata, or another shown branch. The fields are the current ones."""


class ChatDeleted(msgspec.Struct, frozen=True, gc=False, tag="chat_deleted"):
    """A chat and all its turns are deleted."""

    chat_id: str


class TurnStarted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="turn_started"):
    """A turn has begun. Its own events follow, among those of other turns.

    `user_turn_id`: the turn before it. Missing if there is none.
    """

    chat_id: str
    turn_id: str
    model: str | None
    timestamp: str
    user_turn_id: str | None = None


ChatEvent: TypeAlias = EventsStart | EventsEnd | ChatCreated | ChatChanged | ChatDeleted | TurnStarted
