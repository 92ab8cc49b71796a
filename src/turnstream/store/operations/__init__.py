"""Every write there is. Each refuses before it writes, so that a refusal leaves its group standing."""

from turnstream.store.operations.chats import CreateChat, UpdateChat
from turnstream.store.operations.content import (
    AppendJournal,
    JournalPage,
    SaveAnnotations,
    SaveBlock,
    TrimJournal,
)
from turnstream.store.operations.deleting import DeleteChat, PurgeChat
from turnstream.store.operations.progress import FinishTurn, GiveUp, MarkStreaming, TakeBack, TakeOver
from turnstream.store.operations.start import StartedRecords, StartTurns

__all__ = [
    "AppendJournal",
    "CreateChat",
    "DeleteChat",
    "FinishTurn",
    "GiveUp",
    "JournalPage",
    "MarkStreaming",
    "PurgeChat",
    "SaveAnnotations",
    "SaveBlock",
    "StartTurns",
    "StartedRecords",
    "TakeBack",
    "TakeOver",
    "TrimJournal",
    "UpdateChat",
]
