"""The events that announce changes of chats and the starts of turns."""

from __future__ import annotations

from turnstream.core.owner_events.events import (
    ChatChanged,
    ChatCreated,
    ChatDeleted,
    ChatEvent,
    TurnStarted,
)
from turnstream.store.announcements import ChatAnnouncement, TurnAnnouncement
from turnstream.turns.clock import iso_timestamp


def started_event(announcement: TurnAnnouncement) -> TurnStarted:
    """Return the event that announces a turn."""
    return TurnStarted(
        announcement.chat_id,
        announcement.turn_id,
        announcement.model,
        iso_timestamp(announcement.moment),
        announcement.user_turn_id,
    )


def event_of(announcement: ChatAnnouncement | TurnAnnouncement) -> ChatEvent:
    """Return the event of an announcement."""
    if isinstance(announcement, TurnAnnouncement):
        return started_event(announcement)
    if announcement.kind == "deleted":
        return ChatDeleted(announcement.chat_id)
    kind = ChatCreated if announcement.kind == "created" else ChatChanged
    created, updated = iso_timestamp(announcement.created_at), iso_timestamp(announcement.updated_at)
    return kind(announcement.chat_id, announcement.title, created, updated, announcement.active_turn_id)
